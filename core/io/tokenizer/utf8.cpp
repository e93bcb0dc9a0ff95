// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/utf8.hpp"

#include <algorithm>

namespace pikv::utf8 {
namespace {

struct LeadByte {
  std::size_t length_bytes;  // 0: cannot begin a character
  unsigned char second_min, second_max;
};

constexpr LeadByte classify(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Step next_step(std::string_view bytes) {
  const LeadByte lead = classify(static_cast<unsigned char>(bytes.front()));
  if (lead.length_bytes == 0) return {StepKind::kBroken, 1};
  const std::size_t available = std::min(lead.length_bytes, bytes.size());
  for (std::size_t i = 1; i < available; ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char low = i == 1 ? lead.second_min : 0x80;
    const unsigned char high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return {StepKind::kBroken, i};
  }
  if (available < lead.length_bytes) return {StepKind::kIncomplete, available};
  return {StepKind::kCharacter, lead.length_bytes};
}

std::optional<std::size_t> find_invalid(std::string_view bytes) {
  std::size_t offset = 0;
  while (offset < bytes.size()) {
    if (static_cast<unsigned char>(bytes[offset]) < 0x80) {
      ++offset;
      continue;
    }
    const Step step = next_step(bytes.substr(offset));
    if (step.kind != StepKind::kCharacter) return offset;
    offset += step.length_bytes;
  }
  return std::nullopt;
}

std::uint32_t first_code_point(std::string_view text) {
  const std::size_t length = length_from_lead(text.front());
  const auto lead = static_cast<unsigned char>(text.front());
  if (length == 1) return lead;
  std::uint32_t code_point = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    code_point = (code_point << 6) | (static_cast<unsigned char>(text[i]) & 0x3FU);
  }
  return code_point;
}

void append_code_point(std::uint32_t code_point, std::string& out) {
  const auto trailing = [&](int shift) {
    out += static_cast<char>(0x80U | ((code_point >> shift) & 0x3FU));
  };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xC0U | (code_point >> 6));
    trailing(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xE0U | (code_point >> 12));
    trailing(6);
    trailing(0);
  } else {
    out += static_cast<char>(0xF0U | (code_point >> 18));
    trailing(12);
    trailing(6);
    trailing(0);
  }
}

std::size_t append_lossy(std::string_view bytes, std::string& out) {
  std::size_t offset = 0;
  while (offset < bytes.size()) {
    const Step step = next_step(bytes.substr(offset));
    if (step.kind == StepKind::kIncomplete) break;
    out += step.kind == StepKind::kCharacter ? bytes.substr(offset, step.length_bytes)
                                             : kReplacementCharacter;
    offset += step.length_bytes;
  }
  return offset;
}

}  // namespace pikv::utf8
