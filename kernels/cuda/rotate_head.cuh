// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// RoPE of one head of one row by a warp, after its norm if it has one.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/rope.hpp"

namespace pikv::kernels::cuda {

struct RotateParams {
  const float* __restrict__ cos;   // [T, D / 2]
  const float* __restrict__ sin;   // [T, D / 2]
  float* __restrict__ x;           // [T, H, D]
  const float* __restrict__ norm;  // [D] or null
  std::int64_t num_head_rows;      // T * H
  std::int64_t num_heads;
  std::int64_t half_dim;
  float eps;
};

[[nodiscard]] inline RotateParams rotate_params(const RopeArgs& args) {
  const bool has_channels = args.x.extent(2) > 0;
  return {.cos = args.cos.data,
          .sin = args.sin.data,
          .x = args.x.data,
          .norm = args.norm,
          .num_head_rows = has_channels ? args.x.extent(0) * args.x.extent(1) : 0,
          .num_heads = args.x.extent(1),
          .half_dim = args.x.extent(2) / 2,
          .eps = args.eps};
}

/// In place; `put(channel, x)` gets each channel too, once, by some lane.
template <class Put>
__device__ __forceinline__ void rotate_head(const RotateParams& params, std::int64_t head_row,
                                            const Put& put) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t half = params.half_dim;
  float* low = params.x + head_row * 2 * half;
  float* high = low + half;
  float scale = 1.0f;
  if (params.norm != nullptr) {
    float total = 0.0f;
    for (std::int64_t i = lane; i < half; i += kWarpThreads) {
      total += low[i] * low[i] + high[i] * high[i];
    }
    scale = 1.0f / sqrtf(warp_sum(total) / static_cast<float>(2 * half) + params.eps);
  }
  const std::int64_t angles = head_row / params.num_heads * half;
  for (std::int64_t i = lane; i < half; i += kWarpThreads) {
    const float cos = params.cos[angles + i];
    const float sin = params.sin[angles + i];
    float a = low[i];
    float b = high[i];
    if (params.norm != nullptr) {
      a = a * scale * params.norm[i];
      b = b * scale * params.norm[half + i];
    }
    const float rotated[2] = {a * cos - b * sin, b * cos + a * sin};
    low[i] = rotated[0];
    high[i] = rotated[1];
    put(i, rotated[0]);
    put(half + i, rotated[1]);
  }
}

}  // namespace pikv::kernels::cuda
