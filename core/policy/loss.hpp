// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A training loss over the logits of a batch of rows.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/ids.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

class Loss {
 public:
  virtual ~Loss() = default;

  /// The loss of each row in nats: logits [T, V], targets [T] (the token that follows), losses [T].
  /// Throws InvalidArgument for a target outside the vocabulary.
  virtual void evaluate(View<const float, 2> logits, std::span<const TokenId> targets,
                        std::span<float> losses) const = 0;
};

}  // namespace pikv
