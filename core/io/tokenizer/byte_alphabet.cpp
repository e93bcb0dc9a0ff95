// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/byte_alphabet.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/io/tokenizer/utf8.hpp"

namespace pikv::byte_alphabet {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/// [byte] -> code point.
constexpr std::array<std::uint16_t, 256> make_code_points() {
  std::array<std::uint16_t, 256> code_points{};
  std::uint16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    code_points[byte] = stands_for_itself(byte) ? static_cast<std::uint16_t>(byte) : next++;
  }
  return code_points;
}

constexpr std::array<std::uint16_t, 256> kCodePoints = make_code_points();

/// [code point] -> byte, or -1.
constexpr std::array<std::int16_t, kEndCodePoint> make_bytes() {
  std::array<std::int16_t, kEndCodePoint> bytes{};
  bytes.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[kCodePoints[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}

constexpr std::array<std::int16_t, kEndCodePoint> kBytes = make_bytes();

}  // namespace

void append_encoded(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) {
    utf8::append_code_point(kCodePoints[static_cast<unsigned char>(byte)], out);
  }
}

void append_decoded(std::string_view token, std::string& out) {
  const std::size_t size_before = out.size();
  for (std::size_t i = 0; i < token.size(); i += utf8::length_from_lead(token[i])) {
    const std::uint32_t code_point = utf8::first_code_point(token.substr(i));
    if (code_point >= kEndCodePoint || kBytes[code_point] < 0) {
      out.resize(size_before);
      out += token;
      return;
    }
    out += static_cast<char>(kBytes[code_point]);
  }
}

}  // namespace pikv::byte_alphabet
