// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// UTF-8, read one step at a time. A step is a character, a broken sequence or the beginning of a
// character whose rest has not arrived. Broken sequences are the maximal subparts of the Unicode
// Standard (chapter 3, table 3-7), so that replacing each by U+FFFD gives what Rust's
// `from_utf8_lossy`, and so the reference tokenizer, gives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pikv::utf8 {

enum class StepKind : std::uint8_t { kCharacter, kBroken, kIncomplete };

struct Step {
  StepKind kind;
  std::size_t length_bytes;
};

/// Reads the front of `bytes`, which must not be empty.
[[nodiscard]] Step next_step(std::string_view bytes);

/// The byte offset of the first sequence that is not UTF-8, or nothing if there is none. O(n).
[[nodiscard]] std::optional<std::size_t> find_invalid(std::string_view bytes);

/// The length in bytes of the character that begins with `lead`; only for valid UTF-8.
[[nodiscard]] constexpr std::size_t length_from_lead(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The code point at the front of `text`; only for valid, non-empty UTF-8.
[[nodiscard]] std::uint32_t first_code_point(std::string_view text);

/// Appends `code_point`, which must be a Unicode scalar value.
void append_code_point(std::uint32_t code_point, std::string& out);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// Appends `bytes` with each broken sequence replaced by U+FFFD and returns how many bytes were
/// taken. What is left (at most three bytes) is the beginning of a character.
[[nodiscard]] std::size_t append_lossy(std::string_view bytes, std::string& out);

}  // namespace pikv::utf8
