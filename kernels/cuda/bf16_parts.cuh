// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Floats as sums of three bfloat16 numbers, 8 bits of the significand each, so that products with
// bfloat16 weights on tensor cores, exact in float32, lose nothing of them:
//
//   x w = high w + middle w + low w
//
// The parts are cut off, not rounded: high then never overflows. What lies below 2^-133 is lost.
// An infinity or a NaN is its high part alone.
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/cuda/device.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kMaxBf16Parts = 3;

/// How many parts products have in which the Exec's dtype is kept: one, rounded, or all.
[[nodiscard]] inline int num_bf16_parts(const Exec& exec) {
  return exec.product_dtype() == DType::kBf16 ? 1 : kMaxBf16Parts;
}

/// Parts of x: the smallest first, as they are to be summed. With one part it is x rounded.
template <int kParts>
__device__ __forceinline__ void split_bf16(float x, BFloat16 (&parts)[kParts]) {
  static_assert(kParts == 1 || kParts == kMaxBf16Parts);
  if constexpr (kParts == 1) {
    parts[0] = narrow<BFloat16>(x);
  } else {
    const std::uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) {
      parts[0] = parts[1] = {0};
      parts[2] = narrow<BFloat16>(x);
      return;
    }
    // Differences are exact: each takes away the upper bits.
    const float rest = x - __uint_as_float(bits & 0xffff0000u);
    const std::uint32_t rest_bits = __float_as_uint(rest);
    const float last = rest - __uint_as_float(rest_bits & 0xffff0000u);
    parts[2] = {static_cast<std::uint16_t>(bits >> 16)};
    parts[1] = {static_cast<std::uint16_t>(rest_bits >> 16)};
    parts[0] = {static_cast<std::uint16_t>(__float_as_uint(last) >> 16)};
  }
}

/// Parts of `size` numbers at x: part i goes to parts[i * size], [num_parts, size].
void split_into_bf16(Exec& exec, const float* x, std::int64_t size, int num_parts, BFloat16* parts);

}  // namespace pikv::kernels::cuda
