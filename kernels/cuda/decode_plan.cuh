// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How decode attention is divided. A unit is a segment of one row, a KV head, and up to
// kHeadsPerUnit of the query heads of its group. The slots of a unit are cut into tiles: kTileSlots
// slots of sealed pages of one stream (fewer at its end), all streams in their order, then kLanes
// slots of each open page. Each unit has a place of at least as many tiles, its own at the end of
// it; places, end to end, are cut into equal ranges, one a block: which blocks merge the parts of a
// unit, decode_merge.cuh says. Places of units that are about equally long are a whole number of
// ranges each, or a range is a whole number of places: so no block ends one unit and begins another
// while others wait for it. Else ranges cut units wherever they end, and a place begins with as
// many tiles as it takes a block to change units. Lengths are read on the device, so that the host
// need not know them; the division, and so the rounding, follows from the lengths alone.
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

/// Units of one launch. 1 MiB of places.
inline constexpr std::int64_t kMaxUnits = std::int64_t{1} << 18;
/// Units for each thread of a block that counts all of them for itself.
inline constexpr int kUnitsOfThread = 4;

/// How many tiles it takes as long as to end a unit and begin another, measured (6 to 10); places
/// of fewer units than that have none: parts would be more, and short ones merge longer than they
/// read.
inline constexpr std::int32_t kChangeTiles = 8;
inline constexpr std::int32_t kManyUnits = 16;

/// A part of a unit: [heads, D] outputs and as many log-sum-exps, to base 2.
struct PartShape {
  std::int32_t head_dim;
  __host__ __device__ constexpr std::int64_t floats() const {
    return std::int64_t{kHeadsPerUnit} * (head_dim + 1);
  }
};

/// Blocks of a launch.
inline constexpr std::int64_t kMaxDecodeBlocks = std::int64_t{1} << 10;
static_assert(kMaxDecodeBlocks <= pikv::cuda::kNumCounters);

struct DecodeParams {
  const float* __restrict__ q;                    // [T, H, D]
  const std::int32_t* __restrict__ positions;     // [T]
  const AttentionSegment* __restrict__ segments;  // [num_segments]
  const StreamView* __restrict__ streams;
  float* __restrict__ o;              // [T, H, D]
  float* __restrict__ lse;            // [T, H]
  std::int32_t* __restrict__ places;  // Places; null: every block counts for itself
  LongSegments* __restrict__ long_segments;
  // [num_blocks], of the unit whose first part is a block's: parts that are written; 0 between
  // launches.
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

__device__ __forceinline__ std::int32_t tiles_of(const DecodeParams& params,
                                                 const StreamView& stream) {
  return sealed_tiles(params, stream) + open_tiles(params, stream);
}

__device__ __forceinline__ std::int32_t tiles_of(const DecodeParams& params, const Unit& unit) {
  const AttentionSegment segment = *unit.segment;
  if (segment.row_end - segment.row_begin != 1) return 0;
  const StreamView* streams = streams_of(params.streams, segment, unit.kv_head);
  std::int32_t count = 0;
#pragma unroll 1
  for (std::int32_t s = 0; s < segment.num_streams; ++s) {
    count += tiles_of(params, streams[s]);
  }
  return count;
}

/// Of all units: those with the most tiles, and with the fewest.
struct UnitTiles {
  std::int32_t longest;
  std::int32_t shortest;
};

/// How long places and ranges are.
struct Division {
  std::int32_t place_tiles;  // of each place; 0: of each what change_tiles() says
  std::int32_t block_tiles;  // of a range; 0: what is left to be found
  std::int32_t some_empty;   // whether units have no tiles
};

/// Of units that are about equally long, where so divided they leave few blocks idle.
__device__ __forceinline__ Division divide_equally(const DecodeParams& params,
                                                   const UnitTiles& units) {
  const std::int32_t num_units = params.num_units;
  const std::int32_t num_blocks = params.num_blocks;
  const Division unequal{
      .place_tiles = 0, .block_tiles = 0, .some_empty = units.shortest == 0 ? 1 : 0};
  if (unequal.some_empty != 0 || units.shortest < units.longest - units.longest / 8) return unequal;
  const auto keeps_busy = [&](std::int32_t blocks, std::int32_t of) {
    return of - blocks <= of / 16;
  };
  if (num_units > num_blocks) {
    const std::int32_t units_of_block = (num_units + num_blocks - 1) / num_blocks;
    if (!keeps_busy((num_units + units_of_block - 1) / units_of_block, num_blocks)) return unequal;
    return {units.longest, units_of_block * units.longest, 0};
  }
  const std::int32_t blocks_of_unit = num_blocks / num_units;
  const std::int32_t even = (units.longest + blocks_of_unit - 1) / blocks_of_unit;
  // Of few tiles, not all blocks have some.
  if (even >= params.min_block_tiles && !keeps_busy(blocks_of_unit * num_units, num_blocks)) {
    return unequal;
  }
  const std::int32_t block_tiles = max(even, params.min_block_tiles);
  return {(units.longest + block_tiles - 1) / block_tiles * block_tiles, block_tiles, 0};
}

/// That the place of a unit with tiles begins with, where units are not divided equally.
__device__ __forceinline__ std::int32_t change_tiles(const DecodeParams& params) {
  return params.num_units < kManyUnits ? 0 : kChangeTiles;
}
__device__ __forceinline__ std::int32_t place_of(const DecodeParams& params,
                                                 const Division& division, std::int32_t tiles) {
  if (division.place_tiles > 0) return division.place_tiles;
  return tiles == 0 ? 0 : change_tiles(params) + tiles;
}
/// Tiles of a range, of places with so many in all.
__device__ __forceinline__ std::int32_t range_of(const DecodeParams& params,
                                                 const Division& division,
                                                 std::int32_t place_tiles) {
  if (division.block_tiles > 0) return division.block_tiles;
  return max((place_tiles + params.num_blocks - 1) / params.num_blocks, params.min_block_tiles);
}

/// What count_in_block() or count_tiles() finds: the division, then where places begin, and where
/// the last one ends. [num_units + 4]
struct Places {
  static constexpr int kDivisionWords = 3;
  std::int32_t* words;

  [[nodiscard]] __device__ Division division() const { return {words[0], words[1], words[2]}; }
  __device__ void set(const Division& division) const {
    words[0] = division.place_tiles;
    words[1] = division.block_tiles;
    words[2] = division.some_empty;
  }
  [[nodiscard]] static constexpr std::int64_t bytes_of(std::int64_t num_units) {
    return (kDivisionWords + num_units + 1) * std::int64_t{sizeof(std::int32_t)};
  }
  /// Of unit i; it ends where the next one begins.
  [[nodiscard]] __device__ std::int32_t& begin(std::int32_t i) const {
    return words[kDivisionWords + i];
  }
};

/// Tiles of units `first`, `first` + kStep, ...; 0 where there is none. Reads wait once for all.
template <int kStep>
__device__ __forceinline__ void tiles_of_units(const DecodeParams& params, std::int32_t first,
                                               std::int32_t (&tiles)[kUnitsOfThread]) {
  const StreamView* streams[kUnitsOfThread];
  std::int32_t num_streams[kUnitsOfThread];
#pragma unroll
  for (int k = 0; k < kUnitsOfThread; ++k) {
    num_streams[k] = 0;
    if (const std::int32_t i = first + k * kStep; i < params.num_units) {
      const Unit unit = unit_at(params, i);
      const AttentionSegment segment = *unit.segment;
      if (segment.row_end - segment.row_begin == 1) num_streams[k] = segment.num_streams;
      streams[k] = streams_of(params.streams, segment, unit.kv_head);
    }
  }
#pragma unroll
  for (int k = 0; k < kUnitsOfThread; ++k) {
    tiles[k] = num_streams[k] > 0 ? tiles_of(params, *streams[k]) : 0;
  }
#pragma unroll
  for (int k = 0; k < kUnitsOfThread; ++k) {
#pragma unroll 1
    for (std::int32_t s = 1; s < num_streams[k]; ++s) tiles[k] += tiles_of(params, streams[k][s]);
  }
}

/// Fills places, in shared memory, of at most kUnitsOfThread * kThreads units, with room for so
/// many.
template <int kThreads>
__device__ void count_in_block(const DecodeParams& params, const Places& places) {
  constexpr int kWarps = kThreads / kWarpThreads;
  __shared__ std::int32_t longest[kWarps];
  __shared__ std::int32_t shortest[kWarps];
  __shared__ std::int32_t warp_sums[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  std::int32_t tiles[kUnitsOfThread];
  tiles_of_units<kThreads>(params, thread, tiles);
  UnitTiles mine{0, INT32_MAX};
#pragma unroll
  for (int k = 0; k < kUnitsOfThread; ++k) {
    const std::int32_t i = thread + k * kThreads;
    places.begin(i) = tiles[k];
    if (i < params.num_units) mine = {max(mine.longest, tiles[k]), min(mine.shortest, tiles[k])};
  }
  mine = {__reduce_max_sync(kWholeWarp, mine.longest),
          __reduce_min_sync(kWholeWarp, mine.shortest)};
  if (lane == 0) {
    longest[warp_idx] = mine.longest;
    shortest[warp_idx] = mine.shortest;
  }
  __syncthreads();
  UnitTiles units{longest[0], shortest[0]};
  for (int w = 1; w < kWarps; ++w) {
    units = {max(units.longest, longest[w]), min(units.shortest, shortest[w])};
  }
  Division division = divide_equally(params, units);
  // Where the places of neighbours end, of each thread's and of all threads' before it.
  std::int32_t ends[kUnitsOfThread];
  std::int32_t sum = 0;
#pragma unroll
  for (int k = 0; k < kUnitsOfThread; ++k) {
    const std::int32_t i = kUnitsOfThread * thread + k;
    if (i < params.num_units) sum += place_of(params, division, places.begin(i));
    ends[k] = sum;
  }
  const std::int32_t own = sum;
  for (int step = 1; step < kWarpThreads; step *= 2) {
    const std::int32_t before = __shfl_up_sync(kWholeWarp, sum, step);
    if (lane >= step) sum += before;
  }
  if (lane == kWarpThreads - 1) warp_sums[warp_idx] = sum;
  __syncthreads();
  for (int w = 0; w < warp_idx; ++w) sum += warp_sums[w];
#pragma unroll
  for (int k = 0; k < kUnitsOfThread; ++k) {
    places.begin(kUnitsOfThread * thread + k + 1) = sum - own + ends[k];
  }
  if (thread == 0) places.begin(0) = 0;
  if (thread == kThreads - 1) {
    division.block_tiles = range_of(params, division, sum);
    places.set(division);
  }
  __syncthreads();
}

/// The part of a unit that a block writes: a block cuts at most the unit that it begins in and the
/// one that it ends in.
__device__ __forceinline__ float* part_of(const DecodeParams& params, std::int32_t block,
                                          bool begins_inside_unit) {
  return params.parts + (2 * std::int64_t{block} + (begins_inside_unit ? 0 : 1)) *
                            PartShape{params.open.head_dim}.floats();
}

/// Enqueues the count of all units, which fills params.places.
void count_tiles(CudaContext& context, const DecodeParams& params);

}  // namespace pikv::kernels::cuda
