// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The words of RULER's needle tasks (Hsieh et al. 2024, 2404.06654).
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace pikv::launch::needle_text {

inline constexpr int kValueDigits = 7;

inline constexpr std::string_view kHeader =
    "Some special magic numbers are hidden within the following text. Make sure to memorize them. "
    "I will quiz you about the numbers afterwards.\n";

[[nodiscard]] inline std::string sentence(std::string_view key, std::string_view value) {
  return fmt::format("One of the special magic numbers for {} is: {}.", key, value);
}

[[nodiscard]] inline std::string question(std::string_view key) {
  return fmt::format(
      "\nWhat is the special magic number for {0} mentioned in the provided text? The special "
      "magic number for {0} mentioned in the provided text is",
      key);
}

}  // namespace pikv::launch::needle_text
