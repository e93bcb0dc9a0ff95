// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How decode attention is divided. A unit is a segment of one row, a KV head, and up to
// kHeadsPerUnit of the query heads of its group. The slots of a unit are cut into tiles: kTileSlots
// slots of sealed pages of one stream (fewer at its end), all streams in their order, then kLanes
// slots of each open page. The tiles of all units, end to end, are cut into equal ranges, one a
// block, wherever that cuts units: which blocks merge the parts of a unit, decode_merge.cuh says.
// To end one unit and begin another takes a block as long as some tiles: each unit is counted as if
// it began with so many more, else all would wait for the blocks that cut two units.
// Lengths are read on the device, so that the host need not know them; the division, and so the
// rounding, follows from the lengths alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/streams.cuh"

namespace pikv::kernels::cuda {

inline constexpr std::int32_t kHeadsPerUnit = 8;  // columns of a product on tensor cores
inline constexpr std::int32_t kTileSlots = 64;
inline constexpr std::int32_t kTileBlocks = kTileSlots / kLanes;

/// Units of one launch. 1 MiB of first tiles.
inline constexpr std::int64_t kMaxUnits = std::int64_t{1} << 18;

/// How many tiles it takes as long as to end a unit and begin another, measured (6 to 10); fewer
/// units are not counted so: their parts would be more, and short ones merge longer than they read.
inline constexpr std::int32_t kUnitTiles = 8;
inline constexpr std::int64_t kManyUnits = 16;

/// A part of a unit: [heads, D] outputs and as many log-sum-exps, to base 2.
struct PartShape {
  std::int32_t head_dim;
  __host__ __device__ constexpr std::int64_t floats() const {
    return std::int64_t{kHeadsPerUnit} * (head_dim + 1);
  }
};

/// How often neighbours become one at most (decode_merge.cuh), and blocks of a launch then.
inline constexpr int kMergeLevels = 3;
inline constexpr std::int64_t kMaxDecodeBlocks = pikv::cuda::kNumCounters / (2 * kMergeLevels);

struct DecodeParams {
  const float* __restrict__ q;                    // [T, H, D]
  const std::int32_t* __restrict__ positions;     // [T]
  const AttentionSegment* __restrict__ segments;  // [num_segments]
  const StreamView* __restrict__ streams;
  float* __restrict__ o;                   // [T, H, D]
  float* __restrict__ lse;                 // [T, H]
  std::int32_t* __restrict__ first_tiles;  // [num_units + 1]; null: every block counts for itself
  std::int32_t unit_tiles;                 // that a unit is counted to begin with
  LongSegments* __restrict__ long_segments;
  // [kMergeLevels, 2 * num_blocks], of parts that are written; 0 between launches.
  unsigned* __restrict__ arrived;
  float* __restrict__ parts;  // [2 * num_blocks]
  std::int64_t part_bytes;    // room for them
  std::int64_t num_segments;
  std::int32_t num_units;
  std::int32_t num_blocks;       // that divide the tiles
  std::int32_t min_block_tiles;  // a block has so many tiles, if there are as many
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::int32_t group_size;
  std::int32_t units_per_group;  // ceil(G / kHeadsPerUnit)
  std::int64_t window;
  float scale;
  bool reads_ahead;            // tables and sealed pages, while the launch before still runs
  std::int32_t sealed_blocks;  // of kLanes slots, in a page
  std::int32_t open_blocks;
  PageShape sealed;
  PageShape open;
};

/// What a unit is.
struct Unit {
  const AttentionSegment* segment;
  std::int32_t kv_head;
  std::int32_t first_head;  // of all query heads
  std::int32_t num_heads;
};

__device__ __forceinline__ Unit unit_at(const DecodeParams& params, std::int32_t i) {
  const std::int32_t group = i / params.units_per_group;
  const std::int32_t kv_head = group % params.num_kv_heads;
  const std::int32_t first = i % params.units_per_group * kHeadsPerUnit;  // of the group
  return {params.segments + group / params.num_kv_heads, kv_head,
          kv_head * params.group_size + first, min(kHeadsPerUnit, params.group_size - first)};
}

__device__ __forceinline__ std::int32_t sealed_tiles(const DecodeParams& params,
                                                     const StreamView& stream) {
  const std::int32_t blocks = stream.num_sealed_pages * params.sealed_blocks;
  return (blocks + kTileBlocks - 1) / kTileBlocks;
}
__device__ __forceinline__ std::int32_t open_tiles(const DecodeParams& params,
                                                   const StreamView& stream) {
  return stream.open_page == nullptr ? 0 : params.open_blocks;
}

/// With those that it is counted to begin with; 0 where there are no others.
__device__ __forceinline__ std::int32_t tiles_of(const DecodeParams& params, const Unit& unit) {
  const AttentionSegment segment = *unit.segment;
  if (segment.row_end - segment.row_begin != 1) return 0;
  const StreamView* streams = streams_of(params.streams, segment, unit.kv_head);
  std::int32_t count = 0;
  for (std::int32_t s = 0; s < segment.num_streams; ++s) {
    count += sealed_tiles(params, streams[s]) + open_tiles(params, streams[s]);
  }
  return count == 0 ? 0 : params.unit_tiles + count;
}

/// Tiles of a block, of so many in all.
__device__ __forceinline__ std::int32_t tiles_per_block(const DecodeParams& params,
                                                        std::int32_t num_tiles) {
  const std::int32_t even = (num_tiles + params.num_blocks - 1) / params.num_blocks;
  return even < params.min_block_tiles ? params.min_block_tiles : even;
}

/// first_tiles[0 ... kThreads], in shared memory, of at most kThreads units.
template <int kThreads>
__device__ void count_in_block(const DecodeParams& params, std::int32_t* first_tiles) {
  __shared__ std::int32_t warp_sums[kThreads / kWarpThreads];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int32_t mine =
      static_cast<int>(threadIdx.x) < params.num_units
          ? tiles_of(params, unit_at(params, static_cast<std::int32_t>(threadIdx.x)))
          : 0;
  std::int32_t sum = mine;
  for (int step = 1; step < kWarpThreads; step *= 2) {
    const std::int32_t before = __shfl_up_sync(kWholeWarp, sum, step);
    if (lane >= step) sum += before;
  }
  if (lane == kWarpThreads - 1) warp_sums[warp_idx] = sum;
  __syncthreads();
  for (int w = 0; w < warp_idx; ++w) sum += warp_sums[w];
  first_tiles[threadIdx.x] = sum - mine;
  if (threadIdx.x == kThreads - 1) first_tiles[kThreads] = sum;
  __syncthreads();
}

/// The part of a unit that a block writes: a block cuts at most the unit that it begins in and the
/// one that it ends in.
__device__ __forceinline__ float* part_of(const DecodeParams& params, std::int32_t block,
                                          bool begins_inside_unit) {
  return params.parts + (2 * std::int64_t{block} + (begins_inside_unit ? 0 : 1)) *
                            PartShape{params.open.head_dim}.floats();
}

/// Enqueues the count of tiles of all units.
void count_tiles(CudaContext& context, const DecodeParams& params);

}  // namespace pikv::kernels::cuda
