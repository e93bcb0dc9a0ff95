// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Decode attention of one block: its range of tiles, unit by unit (decode_plan.cuh). Warps take the
// tiles in turn, each with an online softmax of its own (Milakov and Gimelshein 2018, 1805.02867)
// to base 2, and are merged in their order. A warp reads ahead through a ring of stages in shared
// memory, across the ends of tiles, so that memory is never idle while it computes.
//
// All query heads of a unit are columns of one product. Queries and weights are split into two
// 16-bit numbers each where pages are 16 bits wide: results are those of float32 sums. Over packed
// pages, whose numbers have fewer digits, they are rounded to float16.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_cursor.cuh"
#include "kernels/cuda/decode_merge.cuh"
#include "kernels/cuda/decode_open.cuh"
#include "kernels/cuda/decode_operands.cuh"
#include "kernels/cuda/decode_softmax.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {

template <class Keys, class Values, int kDim, int kWarps, int kRing>
struct DecodeKernel {
  static constexpr int kThreads = kWarps * kWarpThreads;
  // Of a multiprocessor: packed pages need more warps, because they are more work for fewer bytes;
  // with a fourth block registers spill, and it took a quarter longer.
  static constexpr int kMinBlocks = kDim > 128 ? 1 : Keys::kIsPacked ? 3 : 2;
  static constexpr int kStages = Keys::kStages + Values::kStages;  // of a tile
  static constexpr int kLaneBytes =
      Keys::kLaneBytes > Values::kLaneBytes ? Keys::kLaneBytes : Values::kLaneBytes;
  static constexpr std::uint32_t kStageBytes = kLaneBytes * kWarpThreads;
  // Tiles whose stages may be in the ring at once.
  static constexpr int kTilesAhead = (kRing + kStages - 1) / kStages + 1;
  static constexpr std::uint32_t kPositionBytes = kTileSlots * sizeof(std::int32_t);
  static constexpr std::uint32_t kScratchBytes = kLanes * kHeadsPerUnit * sizeof(float);
  static constexpr std::uint32_t kQueryBytes = kDim / 16 * kUnitBytes;
  static constexpr std::uint32_t kOpenBytes = kLanes * kDim * sizeof(float);  // values of a tile
  static constexpr std::uint32_t kRingBytes =
      kRing * kStageBytes > kOpenBytes ? kRing* kStageBytes : kOpenBytes;
  static constexpr std::uint32_t kWarpBytes =
      kRingBytes + kTilesAhead * kPositionBytes + kScratchBytes;
  static constexpr std::uint32_t kMergeBytes = kWarps * kHeadsPerUnit * (kDim + 2) * sizeof(float);
  // Parts of other blocks, as many as the rings have room for, or 8 at least.
  using Merge = PartMerge < kDim, kWarps, kDim<256 ? 15 : 7>;
  static constexpr std::uint32_t kSharedBytes =
      kQueryBytes + std::max({kWarps * kWarpBytes, kMergeBytes, Merge::kRoomBytes});

  /// Fills the ring: the stages of a warp's tiles `tile`, `tile` + kWarps, ... below `end`.
  struct Reader {
    const DecodeParams& params;
    TileCursor cursor;
    TileSource source;  // of `tile`
    TileSource next;    // its page pointers are on their way while `tile` is copied
    std::int32_t tile;
    std::int32_t end;
    std::uint32_t ring;  // in shared memory
    std::uint32_t positions;
    Place keys;  // for which this lane copies
    Place values;
    int stage = 0;     // of `tile`
    int slot = 0;      // of the ring
    int position = 0;  // of the ring of positions

    __device__ Reader(const DecodeParams& all, const StreamView* streams, std::int32_t first,
                      std::int32_t last, std::uint32_t memory, int lane_idx)
        : params(all),
          cursor(all, streams),
          tile(first),
          end(last),
          ring(memory),
          positions(memory + kRingBytes),
          keys(key_copier(lane_idx, all.sealed.num_slots)),
          values(value_copier(lane_idx)) {
      if (tile < end) source = find(tile);
      if (tile + kWarps < end) next = find(tile + kWarps);
    }
    __device__ TileSource find(std::int32_t i) {
      cursor.seek(params, i);
      return cursor.source(params, i, keys, values);
    }
    /// Starts the copies of the next stage.
    __device__ void copy() {
      if (tile < end) {
        const std::uint32_t to = ring + slot * kStageBytes;
        if (stage == 0 && keys.t < 2) {
          copy16(
              positions + position * kPositionBytes + (2 * keys.g + keys.t) * 16,
              source.key_page + params.sealed.position_bytes + (source.key_slot + 4 * keys.t) * 4);
        }
        if (stage < Keys::kStages) {
          Keys::copy(to, params.sealed, source, keys, stage);
        } else {
          if (stage == Keys::kStages) Values::copy_scales(to, params.sealed, source, keys);
          Values::copy(to, params.sealed, source, values, stage - Keys::kStages);
        }
        if (++stage == kStages) {
          stage = 0;
          position = position + 1 == kTilesAhead ? 0 : position + 1;
          tile += kWarps;
          source = next;
          if (tile + kWarps < end) next = find(tile + kWarps);
        }
      }
      slot = slot + 1 == kRing ? 0 : slot + 1;
      commit_copies();
    }
  };

  /// The sealed tiles `tile`, `tile` + kWarps, ... below `end` of a unit, of which the ring of
  /// `reader` has begun to fill.
  static __device__ void attend_sealed(const DecodeParams& params, const StreamView* streams,
                                       std::int32_t tile, std::int32_t end,
                                       const Readable& readable, std::uint32_t memory,
                                       std::uint32_t q, int lane_idx, Reader& reader,
                                       Softmax& softmax, typename Values::Sums& sums) {
    if (tile >= end) return;
    const Place lane{lane_idx / 4, lane_idx % 4};
    TileCursor cursor(params, streams);
    int slot = 0;
    int position = 0;
    const auto stage_at = [&] {
      wait_for_copies<kRing - 2>();
      __syncwarp();  // for those of other lanes, and theirs of what the next copies replace
      return memory + slot * kStageBytes;
    };
    const auto advance = [&] {
      slot = slot + 1 == kRing ? 0 : slot + 1;
      reader.copy();
    };
#pragma unroll 1
    for (; tile < end; tile += kWarps) {
      cursor.seek(params, tile);
      const bool there = lane.g / 2 < cursor.blocks_left(params, tile);
      float scores[kRowTiles][4] = {};
#pragma unroll
      for (int stage = 0; stage < Keys::kStages; ++stage) {
        Keys::multiply(stage_at(), lane, q, stage, scores);
        advance();
      }
      const std::uint32_t held = memory + kRingBytes + position * kPositionBytes + lane.g * 32;
      position = position + 1 == kTilesAhead ? 0 : position + 1;
      const uint4 front = load_shared16(held);
      const uint4 back = load_shared16(held + 16);
      const auto mask = [&](int r, std::uint32_t even, std::uint32_t odd) {
        if (!there || !readable.contains(static_cast<std::int32_t>(even))) {
          scores[r][0] = scores[r][1] = -INFINITY;
        }
        if (!there || !readable.contains(static_cast<std::int32_t>(odd))) {
          scores[r][2] = scores[r][3] = -INFINITY;
        }
      };
      mask(0, front.x, front.y);
      mask(1, front.z, front.w);
      mask(2, back.x, back.y);
      mask(3, back.z, back.w);
      softmax.weigh(scores, sums);
#pragma unroll
      for (int stage = 0; stage < Values::kStages; ++stage) {
        const std::uint32_t from = stage_at();
        if (stage == 0) sums.prepare(from, lane, scores);
        sums.multiply(from, lane, stage);
        advance();
      }
    }
    wait_for_copies<0>();
  }

  /// Queries of a unit as fragments, scaled so that exponents are to base 2.
  static __device__ void stage_queries(const DecodeParams& params, const Unit& unit,
                                       const float* __restrict__ q, uint4* to) {
    constexpr float kLog2E = 1.44269504088896f;
    const float scale = params.scale * kLog2E;
    for (int i = static_cast<int>(threadIdx.x); i < kDim / 16 * kWarpThreads; i += kThreads) {
      const int step = i / kWarpThreads;
      const int head = i % kWarpThreads / 4;
      float x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int d = Keys::channel(step, i % 4, j);
        x[j] = head < unit.num_heads ? q[std::int64_t{head} * kDim + d] * scale : 0.0f;
      }
      const SplitPair low = split<typename Keys::Number>(x[0], x[1]);
      const SplitPair high = split<typename Keys::Number>(x[2], x[3]);
      to[i] = {low.high, high.high, low.low, high.low};
    }
  }

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
  static __device__ __noinline__ void clear_empty_units(const DecodeParams& params,
                                                        const std::int32_t* first_tiles) {
    for (auto i = static_cast<std::int32_t>(threadIdx.x); i < params.num_units; i += kThreads) {
      if (first_tiles[i] != first_tiles[i + 1]) continue;
      const Unit unit = unit_at(params, i);
      if (unit.segment->row_end - unit.segment->row_begin != 1) continue;
      const std::int64_t at =
          std::int64_t{unit.segment->row_begin} * params.num_heads + unit.first_head;
      for (std::int64_t k = 0; k < unit.num_heads; ++k) params.lse[at + k] = -INFINITY;
      for (std::int64_t k = 0; k < unit.num_heads * kDim; ++k) params.o[at * kDim + k] = 0.0f;
    }
  }

  static __device__ void run(const DecodeParams& params, char* memory) {
    __shared__ std::int32_t counted[kThreads + 1];
    bool waits = params.reads_ahead;  // for queries, open pages, and who reads the last output
    if (!waits) wait_for_previous();
    const int lane_idx = static_cast<int>(threadIdx.x) % kWarpThreads;
    const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
    auto* queries = reinterpret_cast<uint4*>(memory);
    char* rings = memory + kQueryBytes;
    char* ring = rings + warp_idx * kWarpBytes;
    auto* scratch = reinterpret_cast<float*>(ring + kWarpBytes - kScratchBytes);
    const std::int32_t* first_tiles = params.first_tiles;
    if (first_tiles == nullptr) {
      count_in_block<kThreads>(params, counted);
      first_tiles = counted;
    }
    const std::int32_t num_tiles = first_tiles[params.num_units];
    const std::int32_t per_block = tiles_per_block(params, num_tiles);
    const std::int32_t range_begin = static_cast<std::int32_t>(blockIdx.x) * per_block;
    const std::int32_t range_end = min(range_begin + per_block, num_tiles);
    if (range_begin >= range_end) {
      if (waits) wait_for_previous();
      if (blockIdx.x == 0) clear_empty_units(params, first_tiles);
      return;
    }
    // The last unit that begins at or before the range: units without tiles do not matter.
    std::int32_t unit_idx = -1;
    for (std::int32_t base = 0; base < params.num_units; base += kThreads) {
      const std::int32_t i = base + static_cast<std::int32_t>(threadIdx.x);
      const bool before = i < params.num_units && first_tiles[i] <= range_begin;
      unit_idx += __syncthreads_count(before);
    }
    for (std::int32_t at = range_begin; at < range_end; ++unit_idx) {
      const std::int32_t unit_begin = first_tiles[unit_idx];
      const std::int32_t unit_end = first_tiles[unit_idx + 1];
      if (unit_begin == unit_end) continue;
      const std::int32_t begin = at - unit_begin;
      const std::int32_t end = min(range_end, unit_end) - unit_begin;
      const Unit unit = unit_at(params, unit_idx);
      const AttentionSegment segment = *unit.segment;
      const std::int64_t row = segment.row_begin;
      const float* q = params.q + (row * params.num_heads + unit.first_head) * kDim;
      const StreamView* streams = streams_of(params.streams, segment, unit.kv_head);
      const std::int32_t position = params.positions[row];
      const Readable readable{.after = position - params.window, .last = position};
      std::int32_t num_sealed = 0;
      for (std::int32_t s = 0; s < segment.num_streams; ++s) {
        num_sealed += sealed_tiles(params, streams[s]);
      }
      const std::int32_t sealed_end = min(end, num_sealed);
      Reader reader(params, streams, begin + warp_idx, sealed_end, shared_address(ring), lane_idx);
#pragma unroll 1
      for (int i = 0; i < kRing - 1; ++i) reader.copy();
      if (waits) wait_for_previous();
      waits = false;
      stage_queries(params, unit, q, queries);
      __syncthreads();

      Softmax softmax;
      typename Values::Sums sums{};
      attend_sealed(params, streams, begin + warp_idx, sealed_end, readable, shared_address(ring),
                    shared_address(queries + lane_idx), lane_idx, reader, softmax, sums);
      const std::int32_t open_begin = max(begin - num_sealed, 0);  // of the unit's open tiles
      attend_open<Values, kDim, kWarps>(
          params, unit, streams, segment.num_streams, open_begin + warp_idx, end - num_sealed,
          readable, q, scratch, reinterpret_cast<float*>(ring), lane_idx, softmax, sums);
      const bool is_whole = begin == 0 && unit_begin + end == unit_end;
      float* part =
          is_whole ? nullptr : part_of(params, static_cast<std::int32_t>(blockIdx.x), begin > 0);
      write(params, unit, row, part, rings, warp_idx, lane_idx, softmax, sums);
      if (!is_whole) {
        const std::int32_t first_block = unit_begin / per_block;
        const std::int32_t num_blocks = (unit_end - 1) / per_block - first_block + 1;
        Merge::run(params, unit, row, first_block, num_blocks, reinterpret_cast<float*>(rings));
      }
      at = unit_begin + end;
    }
    if (blockIdx.x == 0) clear_empty_units(params, first_tiles);
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kMinBlocks)
    decode_kernel(const __grid_constant__ DecodeParams params) {
  extern __shared__ __align__(128) char memory[];
  Kernel::run(params, memory);
}

}  // namespace pikv::kernels::cuda
