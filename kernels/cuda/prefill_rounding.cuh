// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What prefill attention reads in float32 on its way to tensor cores.
#pragma once

#include <type_traits>

#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

/// Eight floats, rounded; those out of range become the largest number there is, so that a weight
/// of zero hides them.
template <class T>
__device__ __forceinline__ uint4 rounded_piece(const float* __restrict__ from) {
  constexpr float kLargest = std::is_same_v<T, Half> ? 65504.0f : 3.38953139e38f;
  const auto round = [](float x, float y) {
    return pack<T>(fminf(fmaxf(x, -kLargest), kLargest), fminf(fmaxf(y, -kLargest), kLargest));
  };
  const float4 low = *reinterpret_cast<const float4*>(from);
  const float4 high = *reinterpret_cast<const float4*>(from + 4);
  return {round(low.x, low.y), round(low.z, low.w), round(high.x, high.y), round(high.z, high.w)};
}

}  // namespace pikv::kernels::cuda
