// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The common form of packed pages, of which decode attention reads each as one tile: kTileSlots
// slots; keys with one scale a channel, values with scales along slots in groups of 64 channels,
// all in the same element. Everything of an operand then lies in one piece, and where each number
// lies is known at compile time.
//
// Lane (g, t) of a warp multiplies what lies in the t-th quarter of the codes of an operand: of
// keys, its channels and slots 8g ... 8g + 7; of values, its slots and every eighth run of
// channels. Codes lie in shared memory as they do in the page, but for units of 16 bytes, which
// change places within 128 bytes so that lanes that read at once do not meet in a bank.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_codes.cuh"
#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

template <Element kElement, int kDim>
struct PageForm {
  using Traits = ElementTraits<kElement>;
  static constexpr int kQuarterSlots = kTileSlots / 4;
  static constexpr int kQuarterChannels = kDim / 4;
  static constexpr int kGroups = kDim / 64;  // of channels of values

  // Of keys, and of values: codes, then scales, and lows of integers.
  static constexpr int kCodeBytes = kTileSlots * kDim * Traits::kBits / 8;
  static constexpr int kTableBytes = kDim * 2;
  static constexpr int kScaleBytes = kTableBytes * (Traits::kIsInteger ? 2 : 1);
  static constexpr int kOperandBytes = kCodeBytes + kScaleBytes;
  static constexpr int kQuarterBytes = kCodeBytes / 4;
  static constexpr int kPositionBytes = kTileSlots * 4;

  /// Scales, and with them queries and weights, are multiplied by this power of two: the smaller
  /// ones would have few digits in float16 otherwise. The largest with which twice the scale of any
  /// operand that float16 holds stays float16.
  static constexpr int kLiftLog2 = kElement == Element::kE5m2   ? 14
                                   : kElement == Element::kE4m3 ? 7
                                   : kElement == Element::kInt8 ? 5
                                   : kElement == Element::kInt4 ? 1
                                                                : -1;
  static constexpr float kLift = kLiftLog2 < 0 ? 1.0f / (1 << -kLiftLog2) : 1 << kLiftLog2;

  /// What the product of a lifted number and a code is to be multiplied by, less the lift.
  static __device__ constexpr float unit() {
    if constexpr (Traits::kIsInteger) return 1.0f / kSubnormal;
    return fp8_unit<kElement>();
  }

  /// Codes come with factors, as integer_pair says; so much less is what they are multiplied with.
  static constexpr bool kHasFactors = Traits::kBits < 8;
  /// Of code i of a word.
  static __device__ constexpr float inverse_factor(int i) {
    return 1.0f / static_cast<float>(1 << (i * Traits::kBits % 8));
  }

  /// What offsets in the codes of a quarter are combined with, by exclusive or.
  static __device__ std::uint32_t key_swizzle(int quarter) {
    // Integers are read in units 2g and 2g + 1, fp8 in half units g.
    return static_cast<std::uint32_t>(Traits::kIsInteger ? (quarter & 1) << 4 | (quarter & 2) << 5
                                                         : quarter << 5);
  }
  static __device__ std::uint32_t value_swizzle(int quarter) {
    return static_cast<std::uint32_t>(quarter << 5);
  }

  /// Whether sealed pages have this form.
  static bool is_form_of(const PageShape& page) {
    return page.num_slots == kTileSlots && page.keys.num_scales == kDim &&
           page.values.num_scales == kDim && page.keys.codes_bytes == 0 &&
           page.keys.scales_bytes == kCodeBytes && page.values.codes_bytes == kOperandBytes &&
           page.values.scales_bytes == kOperandBytes + kCodeBytes &&
           page.position_bytes == 2 * kOperandBytes;
  }

  /// Starts the copies of consecutive bytes, `lane_bytes` = 16 lane_idx.
  template <int kBytes>
  static __device__ void copy_flat(std::uint32_t to, const std::byte* from,
                                   std::uint32_t lane_bytes) {
#pragma unroll
    for (int at = 0; at < kBytes; at += static_cast<int>(kUnitBytes)) {
      const int left = kBytes - at;
      if (left >= static_cast<int>(kUnitBytes) || lane_bytes < static_cast<std::uint32_t>(left)) {
        copy16(to + at + lane_bytes, from + at + lane_bytes);
      }
    }
  }

  /// Starts the copies of keys or values, with their scales.
  template <bool kAreKeys>
  static __device__ void copy_operand(std::uint32_t to, const std::byte* from,
                                      std::uint32_t lane_bytes) {
#pragma unroll
    for (int i = 0; i < kCodeBytes / static_cast<int>(kUnitBytes); ++i) {
      int quarter;
      if constexpr (kQuarterBytes >= static_cast<int>(kUnitBytes)) {
        quarter = i / (kQuarterBytes / static_cast<int>(kUnitBytes));
      } else {
        quarter = 2 * i + static_cast<int>(lane_bytes / kQuarterBytes);
      }
      const std::uint32_t swizzle = kAreKeys ? key_swizzle(quarter) : value_swizzle(quarter);
      copy16(to + i * kUnitBytes + (lane_bytes ^ swizzle), from + i * kUnitBytes + lane_bytes);
    }
    copy_flat<kScaleBytes>(to + kCodeBytes, from + kCodeBytes, lane_bytes);
  }
};

/// Calls f.template operator()<0>() ... f.template operator()<kCount - 1>().
template <int kCount, class F>
__device__ __forceinline__ void unrolled(F&& f) {
  if constexpr (kCount > 0) {
    unrolled<kCount - 1>(f);
    f.template operator()<kCount - 1>();
  }
}

/// The product of two pairs of float16.
__device__ __forceinline__ std::uint32_t multiply_pairs(std::uint32_t a, std::uint32_t b) {
  return as_bits(__hmul2(as_halves(a), as_halves(b)));
}

/// Numbers i and i + kPerWord / 2 of a word of integers, from all of them, one after the other.
template <Element kElement, int kPair>
__device__ __forceinline__ std::uint32_t word_pair(const std::uint32_t* numbers) {
  const std::uint32_t a = numbers[kPair / 2];
  const std::uint32_t b = numbers[kPair / 2 + ElementTraits<kElement>::kPerWord / 4];
  return kPair % 2 == 0 ? lower_halves(a, b) : upper_halves(a, b);
}

}  // namespace pikv::kernels::cuda
