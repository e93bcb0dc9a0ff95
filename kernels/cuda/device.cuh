// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Device functions that several kernels share: reductions over a warp, and scalar conversions that
// equal those of kernels/common/dtype.hpp bit for bit (NaN may lose its payload on widening).
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/common/dtype.hpp"

namespace pikv::kernels::cuda {

inline constexpr int kWarpThreads = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(BFloat16 x) {
  return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16);
}
__device__ __forceinline__ float widen(Half x) { return __half2float(__ushort_as_half(x.bits)); }

/// Rounds to nearest, ties to even; NaN stays NaN.
template <class T>
__device__ T narrow(float x);

template <>
__device__ __forceinline__ float narrow<float>(float x) {
  return x;
}

template <>
__device__ __forceinline__ BFloat16 narrow<BFloat16>(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <>
__device__ __forceinline__ Half narrow<Half>(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<std::uint16_t>(((bits >> 16) & 0x8000u) | 0x7e00u)};
  }
  return {__half_as_ushort(__float2half_rn(x))};
}

/// Until all that the launch before wrote is there, for kernels of launch_early: every block calls
/// it. Then blocks of the next launch may take their places, so that when a launch begins, all but
/// the one before it have ended, and what they wrote may be read at once.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// The same result, bit for bit, on every lane; the order of the sum is fixed.
__device__ __forceinline__ float warp_sum(float x) {
  for (int step = kWarpThreads / 2; step > 0; step /= 2) x += __shfl_xor_sync(kWholeWarp, x, step);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
  for (int step = kWarpThreads / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, step));
  }
  return x;
}

}  // namespace pikv::kernels::cuda
