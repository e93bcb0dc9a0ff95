// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Cutting a text at the matches of a pattern.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/io/tokenizer/regex.hpp"

namespace pikv {

/// What becomes of a match: dropped, a part of its own, joined to the part before or after it, or
/// joined with the matches next to it.
enum class SplitBehavior : std::uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous
};

/// Sets `parts` to the parts of `text`, in order and none empty. With `invert`, what lies between
/// the matches counts as matched, and the matches do not.
void split(RegexMatcher& matcher, std::string_view text, SplitBehavior behavior, bool invert,
           std::vector<TextRange>& parts);

}  // namespace pikv
