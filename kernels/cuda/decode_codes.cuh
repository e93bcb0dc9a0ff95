// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Codes of packed pages as pairs of float16, a few instructions a pair.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/packed.cuh"

namespace pikv::kernels::cuda {

__device__ __forceinline__ std::uint32_t as_bits(__half2 pair) {
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ __forceinline__ __half2 as_halves(std::uint32_t pair) {
  return *reinterpret_cast<const __half2*>(&pair);
}

// From sm_89 on one instruction makes two numbers of two codes. Before, the bits of codes are those
// of float16, in units, because e4m3 has another bias.

/// What fp8_pair gives is to be multiplied by this.
template <Element kElement>
__device__ __forceinline__ constexpr float fp8_unit() {
#if __CUDA_ARCH__ >= 890
  return 1.0f;
#else
  return static_cast<float>(1 << (15 - ElementTraits<kElement>::kBias));
#endif
}

/// Byte kByte of two words, as numbers in units of fp8_unit(). Bytes 2i and 2i + 1 of the same
/// words share one permutation.
template <Element kElement, int kByte>
__device__ __forceinline__ std::uint32_t fp8_pair(std::uint32_t first, std::uint32_t second) {
#if __CUDA_ARCH__ >= 890
  constexpr std::uint32_t kEven = kByte / 2 * 2;
  constexpr std::uint32_t kSelect = (5 + kEven) << 12 | (1 + kEven) << 8 | (4 + kEven) << 4 | kEven;
  const std::uint32_t both = __byte_perm(first, second, kSelect);
  // The conversion reads either half of a register, but only if it is not shifted down before.
  std::uint32_t pair;
  if constexpr (kElement == Element::kE5m2) {
    if constexpr (kByte % 2 == 0) {
      asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.rn.f16x2.e5m2x2 %0, l;}"
          : "=r"(pair)
          : "r"(both));
    } else {
      asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.rn.f16x2.e5m2x2 %0, h;}"
          : "=r"(pair)
          : "r"(both));
    }
  } else {
    if constexpr (kByte % 2 == 0) {
      asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.rn.f16x2.e4m3x2 %0, l;}"
          : "=r"(pair)
          : "r"(both));
    } else {
      asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; cvt.rn.f16x2.e4m3x2 %0, h;}"
          : "=r"(pair)
          : "r"(both));
    }
  }
  return pair;
#else
  constexpr std::uint32_t kSelect = (4 + kByte) << 12 | (4 + kByte) << 8 | kByte << 4 | kByte;
  const std::uint32_t codes = __byte_perm(first, second, kSelect);
  if constexpr (kElement == Element::kE5m2) {
    return codes & 0xff00ff00u;
  } else {
    return (codes & 0x80008000u) | ((codes >> 1) & 0x3f803f80u);
  }
#endif
}

/// Pair kPair of a word of integers that lie half a word apart: code kPair and code
/// kPair + kPerWord / 2 of them, each times integer_factor<kPair>(), as bits of two subnormals.
template <Element kElement, int kPair>
__device__ __forceinline__ std::uint32_t integer_pair(std::uint32_t word) {
  constexpr int kBits = ElementTraits<kElement>::kBits;
  if constexpr (kBits == 8) return __byte_perm(word, 0, kPair == 0 ? 0x4240 : 0x4341);
  constexpr int kShift = kPair * kBits / 8 * 8;  // the lower byte of each half, or the upper one
  constexpr std::uint32_t kMask = ElementTraits<kElement>::kMask << (kPair * kBits % 8);
  return (word >> kShift) & (kMask | kMask << 16);
}
template <Element kElement, int kPair>
inline constexpr int kIntegerFactor = 1 << (kPair * ElementTraits<kElement>::kBits % 8);

/// A subnormal float16 counts these.
inline constexpr float kSubnormal = 0x1p-24f;

/// The pair as codes, exactly.
template <Element kElement, int kPair>
__device__ __forceinline__ __half2 integer_codes(std::uint32_t word) {
  // With this exponent the mantissa counts ones from 1024 on.
  const __half2 offset = as_halves(integer_pair<kElement, kPair>(word) | 0x64006400u);
  constexpr int kFactor = kIntegerFactor<kElement, kPair>;
  if constexpr (kFactor == 1) {
    return __hadd2(offset, __float2half2_rn(-1024.0f));
  } else {
    return __hfma2(offset, __float2half2_rn(1.0f / kFactor), __float2half2_rn(-1024.0f / kFactor));
  }
}

}  // namespace pikv::kernels::cuda
