// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The open pages of a unit, in float32: a stream has one at most, so plain arithmetic will do. A
// tile is kLanes slots; the halves of the warp divide the channels of their scores.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

/// The open tiles `tile`, `tile` + kWarps, ... below `end` of a unit, counted over its streams.
/// `scratch`: of the warp, [kLanes, kHeadsPerUnit].
template <class Values, int kDim, int kWarps, class Softmax>
__device__ void attend_open(const DecodeParams& params, const Unit& unit, const StreamView* streams,
                            std::int32_t num_streams, std::int64_t tile, std::int64_t end,
                            const Readable& readable, const float* __restrict__ q, float* scratch,
                            int lane_idx, Softmax& softmax, typename Values::Sums& sums) {
  constexpr float kLog2E = 1.44269504088896f;
  const PageShape& shape = params.open;
  const int g = lane_idx / 4;
  const int t = lane_idx % 4;
  std::int64_t first = 0;
  for (std::int32_t s = 0; s < num_streams && tile < end; ++s) {
    const std::byte* page = streams[s].open_page;
    const std::int32_t count = open_tiles(params, streams[s]);
    for (; tile < min(static_cast<long long>(first + count), static_cast<long long>(end));
         tile += kWarps) {
      const auto first_slot = static_cast<std::int32_t>(tile - first) * kLanes;
      const std::int32_t slot = first_slot + lane_idx % kLanes;
      const auto* keys = reinterpret_cast<const float*>(page) + slot;
      float products[kHeadsPerUnit] = {};
      for (int d = lane_idx / kLanes; d < kDim; d += 2) {
        const float key = keys[std::int64_t{d} * shape.num_slots];
#pragma unroll
        for (int h = 0; h < kHeadsPerUnit; ++h) {
          if (h < unit.num_heads) products[h] = fmaf(q[h * kDim + d], key, products[h]);
        }
      }
      const std::int32_t held =
          reinterpret_cast<const std::int32_t*>(page + shape.position_bytes)[slot];
      const bool reads = readable.contains(held);
      __syncwarp();  // all have read the last weights
#pragma unroll
      for (int h = 0; h < kHeadsPerUnit; ++h) {
        products[h] += __shfl_xor_sync(kWholeWarp, products[h], kLanes);
        if (lane_idx < kLanes) {
          scratch[lane_idx * kHeadsPerUnit + h] =
              reads ? products[h] * params.scale * kLog2E : -INFINITY;
        }
      }
      __syncwarp();
      // As a tile of which the first sixteen slots are there.
      float scores[kRowTiles][4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        const float* row = scratch + (8 * g + 2 * r) * kHeadsPerUnit + 2 * t;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          scores[r][i] = g < 2 ? row[i / 2 * kHeadsPerUnit + i % 2] : -INFINITY;
        }
      }
      softmax.weigh(scores, sums);
      __syncwarp();
      if (g < 2) {
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          float* row = scratch + (8 * g + 2 * r) * kHeadsPerUnit + 2 * t;
#pragma unroll
          for (int i = 0; i < 4; ++i) row[i / 2 * kHeadsPerUnit + i % 2] = scores[r][i];
        }
      }
      __syncwarp();
      const auto* values = reinterpret_cast<const float*>(page + shape.values.codes_bytes) +
                           std::int64_t{first_slot} * shape.values.stride;
      for (int j = 0; j < kLanes; ++j) {
        const float first_weight = scratch[j * kHeadsPerUnit + 2 * t] / Values::unit();
        const float second_weight = scratch[j * kHeadsPerUnit + 2 * t + 1] / Values::unit();
#pragma unroll
        for (int i = 0; i < kDim / 16; ++i) {
          const float2 v = *reinterpret_cast<const float2*>(
              values + std::int64_t{j} * shape.values.stride + Values::channel(i, g));
          sums.o[i][0] = fmaf(first_weight, v.x, sums.o[i][0]);
          sums.o[i][1] = fmaf(second_weight, v.x, sums.o[i][1]);
          sums.o[i][2] = fmaf(first_weight, v.y, sums.o[i][2]);
          sums.o[i][3] = fmaf(second_weight, v.y, sums.o[i][3]);
        }
      }
    }
    first += count;
  }
}

}  // namespace pikv::kernels::cuda
