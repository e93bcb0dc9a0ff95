// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A gate chooses the experts of each token.
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

struct GateInput {
  View<const float, 2> logits;  // [T, E], the checkpoint's router projection
  bool renormalize;             // the checkpoint's rule for the weights of the chosen
};

class Gate {
 public:
  virtual ~Gate() = default;

  /// experts [T, K]: distinct ids, the first-ranked first; weights [T, K]. A decision depends on
  /// its own token only, never on later ones.
  virtual void choose(Exec& exec, const GateInput& input, View<std::int32_t, 2> experts,
                      View<float, 2> weights) const = 0;
};

}  // namespace pikv
