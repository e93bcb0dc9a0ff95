// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Common English words to name things by.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "launch/eval/draw.hpp"

namespace pikv::launch {

[[nodiscard]] std::span<const std::string_view> key_words();

/// `count` different key words; at most as many as there are.
[[nodiscard]] std::vector<std::string> draw_key_words(Draw draw, std::int64_t count);

/// Two different key words joined by a hyphen, "amber-river".
[[nodiscard]] std::string draw_word_pair(Draw& draw);

/// A name for one of many things, of which `num_used` have names already: a pair of words, or two
/// pairs where the pairs would run out. Names may repeat, but never run out.
[[nodiscard]] std::string draw_name(Draw& draw, std::size_t num_used);

/// The same, but a single word as long as there are enough of them.
[[nodiscard]] std::string draw_short_name(Draw& draw, std::size_t num_used);

}  // namespace pikv::launch
