// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The open pages of a unit, in float32: a stream has one at most, so plain arithmetic will do, but
// every read waits for memory: many of a tile are on their way at once. A tile is kLanes slots.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

/// scratch[slot, head] = q_head . k_slot of a tile. Lane (g, t) has slots 4t ... 4t + 3 and four of
/// every 32 channels, and in the end those of head g.
template <int kDim>
__device__ __noinline__ void score_open_tile(const float* __restrict__ keys, std::int32_t num_slots,
                                             const float* __restrict__ q, std::int32_t num_heads,
                                             int lane_idx, float* scratch) {
  static_assert(kHeadsPerUnit == 8 && kLanes == 16);
  const int g = lane_idx / 4;
  const int t = lane_idx % 4;
  float sums[kHeadsPerUnit][4] = {};
  constexpr int kGroups = 2;  // of 32 channels, that are read at once
#pragma unroll 1
  for (int begin = 4 * g; begin < kDim; begin += 32 * kGroups) {
    float4 k[kGroups][4];
#pragma unroll
    for (int i = 0; i < 4 * kGroups; ++i) {
      const std::int64_t d = begin + i / 4 * 32 + i % 4;
      k[i / 4][i % 4] = *reinterpret_cast<const float4*>(keys + d * num_slots + 4 * t);
    }
#pragma unroll
    for (int h = 0; h < kHeadsPerUnit; ++h) {
      if (h >= num_heads) break;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const float4 x = *reinterpret_cast<const float4*>(q + h * kDim + begin + 32 * i);
        const auto add = [&](float channel, const float4& of_slots) {
          sums[h][0] = fmaf(channel, of_slots.x, sums[h][0]);
          sums[h][1] = fmaf(channel, of_slots.y, sums[h][1]);
          sums[h][2] = fmaf(channel, of_slots.z, sums[h][2]);
          sums[h][3] = fmaf(channel, of_slots.w, sums[h][3]);
        };
        add(x.x, k[i][0]);
        add(x.y, k[i][1]);
        add(x.z, k[i][2]);
        add(x.w, k[i][3]);
      }
    }
  }
  // Halves of the heads go to the lanes that keep them: 4 + 2 + 1 of 8.
#pragma unroll
  for (int kept = kHeadsPerUnit / 2; kept > 0; kept /= 2) {
    const bool keeps_upper = (g & kept) != 0;
#pragma unroll
    for (int h = 0; h < kept; ++h) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float lower = sums[h][j];
        const float upper = sums[h + kept][j];
        const float other = __shfl_xor_sync(kWholeWarp, keeps_upper ? lower : upper, 4 * kept);
        sums[h][j] = (keeps_upper ? upper : lower) + other;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) scratch[(4 * t + j) * kHeadsPerUnit + g] = sums[0][j];
}

/// The open tiles `tile`, `tile` + kWarps, ... below `end` of a unit, counted over its streams.
/// Memory of the warp, to which no copies are on their way: `scratch`, [kLanes, kHeadsPerUnit], and
/// `room` for the values of a tile.
template <class Values, int kDim, int kWarps, class Softmax>
__device__ void attend_open(const DecodeParams& params, const Unit& unit, const StreamView* streams,
                            std::int32_t num_streams, std::int32_t tile, std::int32_t end,
                            const Readable& readable, const float* __restrict__ q, float* scratch,
                            float* room, int lane_idx, Softmax& softmax,
                            typename Values::Sums& sums) {
  constexpr float kLog2E = 1.44269504088896f;
  const PageShape& shape = params.open;
  const int g = lane_idx / 4;
  const int t = lane_idx % 4;
  std::int32_t first = 0;
  for (std::int32_t s = 0; s < num_streams && tile < end; ++s) {
    const std::byte* page = streams[s].open_page;
    const std::int32_t count = open_tiles(params, streams[s]);
    for (; tile < min(first + count, end); tile += kWarps) {
      const std::int32_t first_slot = (tile - first) * kLanes;
      const auto* values = reinterpret_cast<const float*>(page + shape.values.codes_bytes) +
                           std::int64_t{first_slot} * kDim;
      __syncwarp();  // all have read the last weights and values
#pragma unroll
      for (int i = 0; i < kLanes * kDim / 4 / kWarpThreads; ++i) {
        const int at = (i * kWarpThreads + lane_idx) * 4;
        copy16(shared_address(room + at), reinterpret_cast<const std::byte*>(values + at));
      }
      commit_copies();
      const std::int32_t held = reinterpret_cast<const std::int32_t*>(
          page + shape.position_bytes)[first_slot + lane_idx % kLanes];
      score_open_tile<kDim>(reinterpret_cast<const float*>(page) + first_slot, shape.num_slots, q,
                            unit.num_heads, lane_idx, scratch);
      const unsigned readers = __ballot_sync(kWholeWarp, readable.contains(held));
      __syncwarp();
      // As a tile of which the first sixteen slots are there.
      float scores[kRowTiles][4];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        const float* row = scratch + (8 * g + 2 * r) * kHeadsPerUnit + 2 * t;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool reads = g < 2 && (readers >> (8 * g + 2 * r + i / 2) & 1u) != 0;
          scores[r][i] =
              reads ? row[i / 2 * kHeadsPerUnit + i % 2] * (params.scale * kLog2E) : -INFINITY;
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
      wait_for_copies<0>();
      __syncwarp();
#pragma unroll 4
      for (int j = 0; j < kLanes; ++j) {
        const auto two = *reinterpret_cast<const float2*>(scratch + j * kHeadsPerUnit + 2 * t);
        const float weights[2] = {two.x / Values::unit(), two.y / Values::unit()};
#pragma unroll
        for (int i = 0; i < kDim / 16; i += 2) {  // of two products, four channels that follow
          const float4 v =
              *reinterpret_cast<const float4*>(room + j * kDim + Values::channel(i, g));
#pragma unroll
          for (int head = 0; head < 2; ++head) {
            sums.o[i][head] = fmaf(weights[head], v.x, sums.o[i][head]);
            sums.o[i][2 + head] = fmaf(weights[head], v.y, sums.o[i][2 + head]);
            sums.o[i + 1][head] = fmaf(weights[head], v.z, sums.o[i + 1][head]);
            sums.o[i + 1][2 + head] = fmaf(weights[head], v.w, sums.o[i + 1][2 + head]);
          }
        }
      }
    }
    first += count;
  }
}

}  // namespace pikv::kernels::cuda
