// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Normalizers rewrite the text before it is split: Unicode normal forms, a prefix, replacements.
// Each kind is a class of normalizer.cpp and a row of its table.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/io/tokenizer/json_node.hpp"

namespace pikv {

/// Immutable; shared by threads.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Rewrites valid, non-empty UTF-8 into valid UTF-8.
  [[nodiscard]] std::string apply(std::string text) const { return do_apply(std::move(text)); }

 private:
  [[nodiscard]] virtual std::string do_apply(std::string text) const = 0;
};

using Normalizers = std::vector<std::unique_ptr<const Normalizer>>;

/// Reads a component and, for a Sequence, its parts in order. BadFile for an unknown kind.
[[nodiscard]] Normalizers read_normalizers(const JsonNode& node);

}  // namespace pikv
