// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of rows of a weight with a few rows of x, by one warp: the weight is read once, 16 bytes
// a lane and step.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"

namespace pikv::kernels::cuda {

/// Elements of a weight that a lane reads at once; one where rows do not begin at 16 bytes.
template <class T>
inline constexpr int kWideRead = 16 / static_cast<int>(sizeof(T));

template <class T>
[[nodiscard]] bool reads_wide(const void* weight, std::int64_t num_inputs) {
  return num_inputs % kWideRead<T> == 0 && reinterpret_cast<std::uintptr_t>(weight) % 16 == 0;
}

template <class T, int kCount>
struct Pack {
  T items[kCount];
};

/// Once: other blocks will not ask for it again.
template <class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> read_once(const T* from) {
  if constexpr (kCount == 1) {
    return {{*from}};
  } else {
    static_assert(sizeof(Pack<T, kCount>) == 16);
    const uint4 bits = __ldcs(reinterpret_cast<const uint4*>(from));
    Pack<T, kCount> pack;
    memcpy(&pack, &bits, sizeof(pack));
    return pack;
  }
}

template <int kCount>
__device__ __forceinline__ void read_floats(const float* from, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 x = *reinterpret_cast<const float4*>(from + i);
      to[i] = x.x;
      to[i + 1] = x.y;
      to[i + 2] = x.z;
      to[i + 3] = x.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
  }
}

/// totals[o][r] += this lane's part of weights[o] . x[r] over [0, num_inputs); kWide elements a
/// step. Rows of x from num_rows on are not read.
template <int kWide, class T, int kOutputs, int kRows>
__device__ __forceinline__ void add_dots(const T* const (&weights)[kOutputs],
                                         const float* const (&x)[kRows], int num_rows,
                                         std::int64_t num_inputs, int lane,
                                         float (&totals)[kOutputs][kRows]) {
#pragma unroll 4
  for (std::int64_t k = lane * kWide; k < num_inputs; k += kWarpThreads * kWide) {
    Pack<T, kWide> w[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) w[o] = read_once<T, kWide>(weights[o] + k);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= num_rows) break;
      float xs[kWide];
      read_floats<kWide>(x[r] + k, xs);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
        for (int i = 0; i < kWide; ++i) {
          totals[o][r] = fmaf(widen(w[o].items[i]), xs[i], totals[o][r]);
        }
      }
    }
  }
}

}  // namespace pikv::kernels::cuda
