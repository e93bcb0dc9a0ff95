// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The queries of a unit (decode_plan.cuh) in shared memory, as they are: all of them wait for
// memory once. Those that multiply sealed pages are made of these.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_plan.cuh"

namespace pikv::kernels::cuda {

/// Rows of kHeadsPerUnit heads; those that the unit lacks are zero.
template <int kDim>
struct QueryRows {
  /// Floats of a row: a channel of all heads, and four of one, are in different banks.
  static constexpr int kStride = kDim + 4;
  static constexpr std::uint32_t kBytes = kHeadsPerUnit * kStride * sizeof(float);

  const float* rows;

  [[nodiscard]] __device__ const float* of(int head) const { return rows + head * kStride; }

  /// By all threads of a block, from [unit.num_heads, D], D floats apart.
  template <int kThreads>
  static __device__ void copy(const Unit& unit, const float* __restrict__ q, float* rows) {
    constexpr int kCount = kHeadsPerUnit * kDim / 4;
#pragma unroll
    for (int begin = 0; begin < kCount; begin += kThreads) {
      const int i = begin + static_cast<int>(threadIdx.x);
      if (kCount % kThreads != 0 && i >= kCount) break;
      const int head = i / (kDim / 4);
      const float4 x = head < unit.num_heads ? reinterpret_cast<const float4*>(q)[i] : float4{};
      *reinterpret_cast<float4*>(rows + head * kStride + i % (kDim / 4) * 4) = x;
    }
  }
};

}  // namespace pikv::kernels::cuda
