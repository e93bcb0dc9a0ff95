// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Decode attention of one block: its range of tiles, unit by unit (decode_plan.cuh). Warps take the
// tiles in turn, each with an online softmax of its own (Milakov and Gimelshein 2018, 1805.02867)
// to base 2, and are merged in their order.
//
// All query heads of a unit are columns of one product. Queries and weights are split into two
// 16-bit numbers each where pages are 16 bits wide: results are those of float32 sums. Over packed
// pages, whose numbers have fewer digits, they are rounded to float16.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_merge.cuh"
#include "kernels/cuda/decode_open.cuh"
#include "kernels/cuda/decode_operands.cuh"
#include "kernels/cuda/decode_queries.cuh"
#include "kernels/cuda/decode_softmax.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {

/// `Tiles`: how sealed tiles are read (decode_staged.cuh, decode_page_tiles.cuh).
template <class Tiles>
struct DecodeKernel {
  using Values = typename Tiles::Values;
  static constexpr int kDim = Tiles::kDim;
  static constexpr int kWarps = Tiles::kWarps;
  static constexpr int kThreads = kWarps * kWarpThreads;
  static constexpr int kMinBlocks = Tiles::kMinBlocks;
  // Open tiles come before the sealed ones, in the same memory.
  using Open = OpenTiles<Values, kDim, kWarps>;
  static constexpr std::uint32_t kWarpBytes = std::max(Tiles::kWarpBytes, Open::kBytes);
  static constexpr std::uint32_t kMergeBytes = kWarps * kHeadsPerUnit * (kDim + 2) * sizeof(float);
  static constexpr std::uint32_t kRingBytes = std::max(kWarps * kWarpBytes, kMergeBytes);
  static_assert(Places::bytes_of(kUnitsOfThread * kThreads) <= kRingBytes);  // counted there
  static constexpr std::uint32_t kQueryBytes = Tiles::kQueryBytes + QueryRows<kDim>::kBytes;
  static constexpr std::uint32_t kSharedBytes = kQueryBytes + kRingBytes;
  using Merge = PartMerge<kDim, kWarps, kRingBytes>;

  /// Merges the warps and writes the output of a whole unit, or a part.
  static __device__ void write(const DecodeParams& params, const Unit& unit, std::int64_t row,
                               float* part, char* memory, int warp_idx, int lane_idx,
                               Softmax& softmax, typename Values::Sums& sums) {
    auto* o = reinterpret_cast<float*>(memory);          // [kWarps, kHeadsPerUnit, D]
    float* largest = o + kWarps * kHeadsPerUnit * kDim;  // [kWarps, kHeadsPerUnit]
    float* totals = largest + kWarps * kHeadsPerUnit;    // [kWarps, kHeadsPerUnit]
    const int g = lane_idx / 4;
    const int t = lane_idx % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      for (int step = 4; step < kWarpThreads; step *= 2) {
        softmax.total[i] += __shfl_xor_sync(kWholeWarp, softmax.total[i], step);
      }
    }
    sums.finish();
    __syncthreads();  // all warps have left the ring, which this replaces
    const int first = warp_idx * kHeadsPerUnit + 2 * t;
    if (g == 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        largest[first + i] = softmax.largest[i];
        totals[first + i] = softmax.total[i];
      }
    }
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      const int c = Values::channel(i, g);
      const float2 shift = sums.shift(i);
      o[first * kDim + c] = sums.o[i][0] * Values::unit() + shift.x;
      o[(first + 1) * kDim + c] = sums.o[i][1] * Values::unit() + shift.y;
      o[first * kDim + c + 1] = sums.o[i][2] * Values::unit() + shift.x;
      o[(first + 1) * kDim + c + 1] = sums.o[i][3] * Values::unit() + shift.y;
    }
    __syncthreads();
    // What each warp counts for in each head, a thread a head.
    constexpr float kLn2 = 0.693147180559945f;
    const std::int64_t at = row * params.num_heads + unit.first_head;
    if (const auto head = static_cast<int>(threadIdx.x); head < unit.num_heads) {
      float overall = -INFINITY;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        overall = fmaxf(overall, largest[w * kHeadsPerUnit + head]);
      }
      float weights[kWarps];
      float total = 0.0f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float m = largest[w * kHeadsPerUnit + head];
        weights[w] = m == -INFINITY ? 0.0f : exp2f(m - overall);
        total += weights[w] * totals[w * kHeadsPerUnit + head];
      }
      const float scale = total == 0.0f ? 0.0f : 1.0f / total;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) totals[w * kHeadsPerUnit + head] = weights[w] * scale;
      const float lse = total == 0.0f ? -INFINITY : overall + log2f(total);
      if (part == nullptr) {
        params.lse[at + head] = lse * kLn2;
      } else {
        part[kHeadsPerUnit * kDim + head] = lse;
      }
    }
    __syncthreads();
    float* to = part == nullptr ? params.o + at * kDim : part;
#pragma unroll 1
    for (auto i = static_cast<int>(threadIdx.x); i < unit.num_heads * kDim / 4; i += kThreads) {
      const int head = i / (kDim / 4);
      float4 sum{};
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float weight = totals[w * kHeadsPerUnit + head];
        const float4 x = reinterpret_cast<const float4*>(o + w * kHeadsPerUnit * kDim)[i];
        sum.x = fmaf(weight, x.x, sum.x);
        sum.y = fmaf(weight, x.y, sum.y);
        sum.z = fmaf(weight, x.z, sum.z);
        sum.w = fmaf(weight, x.w, sum.w);
      }
      reinterpret_cast<float4*>(to)[i] = sum;
    }
    __syncthreads();  // the next unit replaces all of it
  }

  /// Rows of units that have no slots at all.
  static __device__ __noinline__ void clear_empty_units(const DecodeParams& params) {
    for (auto i = static_cast<std::int32_t>(threadIdx.x); i < params.num_units; i += kThreads) {
      const Unit unit = unit_at(params, i);
      if (tiles_of(params, unit) > 0) continue;
      if (unit.segment->row_end - unit.segment->row_begin != 1) continue;
      const std::int64_t at =
          std::int64_t{unit.segment->row_begin} * params.num_heads + unit.first_head;
      for (std::int64_t k = 0; k < unit.num_heads; ++k) params.lse[at + k] = -INFINITY;
      for (std::int64_t k = 0; k < unit.num_heads * kDim; ++k) params.o[at * kDim + k] = 0.0f;
    }
  }

  static __device__ void run(const DecodeParams& params, char* memory) {
    bool waits = params.reads_ahead;  // for queries, open pages, and who reads the last output
    if (!waits) wait_for_previous();
    const int lane_idx = static_cast<int>(threadIdx.x) % kWarpThreads;
    const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
    auto* query_rows = reinterpret_cast<float*>(memory + Tiles::kQueryBytes);
    char* rings = memory + kQueryBytes;
    char* ring = rings + warp_idx * kWarpBytes;
    Places places{params.places};
    // What this block merges when it is done: at most one unit, its first. Not in registers, which
    // pages need.
    __shared__ CutUnit to_merge;
    if (threadIdx.x == 0) to_merge.num_blocks = 0;
    if (places.words == nullptr) {
      places.words = reinterpret_cast<std::int32_t*>(rings);
      count_in_block<kThreads>(params, places);
    }
    const Division division = places.division();
    const std::int32_t per_block = division.block_tiles;
    const std::int32_t range_begin = static_cast<std::int32_t>(blockIdx.x) * per_block;
    const std::int32_t range_end = min(range_begin + per_block, places.begin(params.num_units));
    const bool clears = division.some_empty != 0 && blockIdx.x == 0;
    if (range_begin >= range_end) {
      if (waits) wait_for_previous();
      if (clears) clear_empty_units(params);
      return;
    }
    // The last place that begins at or before the range: units without tiles do not matter.
    std::int32_t unit_idx = -1;
    for (std::int32_t base = 0; base < params.num_units; base += kThreads) {
      const std::int32_t i = base + static_cast<std::int32_t>(threadIdx.x);
      const bool before = i < params.num_units && places.begin(i) <= range_begin;
      unit_idx += __syncthreads_count(before);
    }
    std::int32_t unit_end = places.begin(unit_idx);  // of the unit before
    __syncthreads();                                 // what is copied may replace the places
    for (std::int32_t at = range_begin; at < range_end; ++unit_idx) {
      const Unit unit = unit_at(params, unit_idx);
      const std::int32_t num_tiles = tiles_of(params, unit);
      if (num_tiles == 0) continue;
      unit_end += place_of(params, division, num_tiles);
      const std::int32_t unit_begin = unit_end - num_tiles;
      at = max(at, unit_begin);
      if (at >= range_end) break;
      const std::int32_t begin = at - unit_begin;
      const std::int32_t end = min(range_end, unit_end) - unit_begin;
      const AttentionSegment segment = *unit.segment;
      const std::int64_t row = segment.row_begin;
      const float* q = params.q + (row * params.num_heads + unit.first_head) * kDim;
      const StreamView* streams = streams_of(params.streams, segment, unit.kv_head);
      const std::int32_t position = params.positions[row];
      std::int32_t num_sealed = 0;
      std::int32_t last_sealed = params.window == kUnbounded ? INT32_MIN : INT32_MAX;
#pragma unroll 1
      for (std::int32_t s = 0; s < segment.num_streams; ++s) {
        num_sealed += sealed_tiles(params, streams[s]);
        last_sealed = max(last_sealed, streams[s].last_sealed);
      }
      const Readable readable{
          .after = position - params.window, .last = position, .last_sealed = last_sealed};
      Open open(params, streams, max(begin - num_sealed, 0) + warp_idx, end - num_sealed, ring,
                lane_idx);
      const bool has_open = open.exist();
      Tiles tiles(params, streams, readable, begin + warp_idx, min(end, num_sealed),
                  shared_address(ring), lane_idx);
      typename QueryRows<kDim>::template Copy<kThreads> queries;
      if (!waits) queries.start(unit, q);
      if (!has_open) tiles.start();
      if (waits) {
        wait_for_previous();
        queries.start(unit, q);
        waits = false;
      }
      if (has_open) open.start();
      queries.finish(query_rows);
      __syncthreads();
      Tiles::stage_queries(params, {query_rows}, memory);
      __syncthreads();

      Softmax softmax;
      typename Values::Sums sums{};
      if (has_open) {
        open.attend(readable, {query_rows}, softmax, sums);
        tiles.start();
      }
      tiles.attend(shared_address(memory), softmax, sums);
      const bool is_whole = begin == 0 && unit_begin + end == unit_end;
      float* part =
          is_whole ? nullptr : part_of(params, static_cast<std::int32_t>(blockIdx.x), begin > 0);
      write(params, unit, row, part, rings, warp_idx, lane_idx, softmax, sums);
      if (!is_whole) {
        const std::int32_t first_block = unit_begin / per_block;
        const CutUnit cut{.output = row * params.num_heads + unit.first_head,
                          .num_heads = unit.num_heads,
                          .first_block = first_block,
                          .num_blocks = (unit_end - 1) / per_block - first_block + 1};
        if (cut.has_few_parts()) {
          Merge::merge_if_last(params, cut, reinterpret_cast<float*>(rings));
        } else {
          Merge::count(params, cut);
          if (cut.head() >= 0 && threadIdx.x == 0) to_merge = cut;
        }
      }
      at = unit_begin + end;
    }
    __syncthreads();
    if (to_merge.num_blocks > 0) {
      Merge::merge_head(params, to_merge, reinterpret_cast<float*>(rings));
    }
    if (waits) wait_for_previous();
    if (clears) clear_empty_units(params);
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kMinBlocks)
    decode_kernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(128) char memory[];
  Kernel::run(params, memory);
}

}  // namespace pikv::kernels::cuda
