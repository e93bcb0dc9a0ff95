// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Element types of tensors in memory and in checkpoints, and their exact scalar conversions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pikv {

enum class DType : std::uint8_t { kF32, kBf16, kF16 };

/// The upper half of an IEEE-754 binary32.
struct BFloat16 {
  std::uint16_t bits;
};

/// IEEE-754 binary16.
struct Half {
  std::uint16_t bits;
};

[[nodiscard]] constexpr std::size_t size_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

[[nodiscard]] constexpr std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
  }
  return "?";
}

[[nodiscard]] inline float to_float(float x) { return x; }

[[nodiscard]] inline float to_float(BFloat16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

[[nodiscard]] inline float to_float(Half x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity and NaN keep their payload
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // A binary16 subnormal is a normal binary32: scaling by 2^112 rebiases both kinds exactly.
  const float rebias = std::bit_cast<float>(0x77800000u);  // 2^112
  const float value = std::bit_cast<float>(magnitude << 13) * rebias;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

/// Rounds to nearest, ties to even; NaN stays NaN.
template <class T>
[[nodiscard]] T from_float(float x);

template <>
[[nodiscard]] inline float from_float<float>(float x) {
  return x;
}

template <>
[[nodiscard]] inline BFloat16 from_float<BFloat16>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <>
[[nodiscard]] inline Half from_float<Half>(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 lines the binary16 unit up with the last bit of the significand.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {
        static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | (rounded >> 13))};
}

}  // namespace pikv
