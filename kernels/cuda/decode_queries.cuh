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

  /// What a thread of a block brings of them.
  template <int kThreads>
  struct Copy {
    static constexpr int kCount = kHeadsPerUnit * kDim / 4;
    static_assert(kCount % kThreads == 0);

    float4 x[kCount / kThreads];

    /// Asks for them: [unit.num_heads, D], D floats apart. In this place among all that is asked
    /// for: behind what fills the rings of a GPU they would be there some 6 us later.
    __device__ void start(const Unit& unit, const float* q) {
#pragma unroll
      for (int j = 0; j < kCount / kThreads; ++j) {
        const int i = j * kThreads + static_cast<int>(threadIdx.x);
        x[j] = i / (kDim / 4) < unit.num_heads ? load_here(q + 4 * i) : float4{};
      }
    }
    /// After start().
    __device__ void finish(float* rows) const {
#pragma unroll
      for (int j = 0; j < kCount / kThreads; ++j) {
        const int i = j * kThreads + static_cast<int>(threadIdx.x);
        const int head = i / (kDim / 4);
        *reinterpret_cast<float4*>(rows + head * kStride + i % (kDim / 4) * 4) = x[j];
      }
    }

   private:
    /// Not moved past copies by the compiler.
    static __device__ float4 load_here(const float* from) {
      float4 x;
      asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                   : "l"(from));
      return x;
    }
  };
};

}  // namespace pikv::kernels::cuda
