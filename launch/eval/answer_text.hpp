// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Texts as the metrics compare them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pikv::launch {

/// The code points of `text`; a broken sequence becomes U+FFFD.
[[nodiscard]] std::u32string code_points(std::string_view text);

/// Lower case, letter by letter (the simple mapping of Unicode).
[[nodiscard]] std::u32string lower_case(std::u32string text);

/// The words of `text` in lower case without ASCII punctuation and without the articles a, an and
/// the: the normalisation of SQuAD. "The U.S. army" is {us, army}.
[[nodiscard]] std::vector<std::u32string> squad_words(std::string_view text);

/// The runs of letters and digits of `text`, in lower case. "Don't" is {don, t}.
[[nodiscard]] std::vector<std::u32string> plain_words(std::string_view text);

/// The first line of `text` after leading line breaks.
[[nodiscard]] std::string_view first_line(std::string_view text);

/// The first line without a backtick, '#' or "//", or nothing: the first line of code.
[[nodiscard]] std::string_view first_code_line(std::string_view text);

/// The runs of ASCII digits of `text`, without leading zeros beyond the last digit.
[[nodiscard]] std::vector<std::string_view> numbers_in(std::string_view text);

}  // namespace pikv::launch
