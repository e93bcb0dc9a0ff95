// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sealed tiles of a unit, read in stages: a part of the keys or of the values each, from pages of
// any size. A warp reads ahead through a ring of stages in shared memory, across the ends of tiles,
// so that memory is never idle while it computes. decode_page_tiles.cuh has the same for
// tiles that are pages.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_cursor.cuh"
#include "kernels/cuda/decode_operands.cuh"
#include "kernels/cuda/decode_queries.cuh"
#include "kernels/cuda/decode_softmax.cuh"

namespace pikv::kernels::cuda {

template <class Keys, class TileValues, int kHeadDim, int kNumWarps>
struct StagedTiles {
  using Values = TileValues;
  static constexpr int kDim = kHeadDim;
  static constexpr int kWarps = kNumWarps;
  static constexpr int kThreads = kWarps * kWarpThreads;
  // Of a multiprocessor: packed pages need more warps, because they are more work for fewer bytes;
  // with a fourth block registers spill, and it took a quarter longer.
  static constexpr int kMinBlocks = kDim > 128 ? 1 : Keys::kIsPacked ? 3 : 2;
  static constexpr int kStages = Keys::kStages + Values::kStages;  // of a tile
  static constexpr int kLaneBytes =
      Keys::kLaneBytes > Values::kLaneBytes ? Keys::kLaneBytes : Values::kLaneBytes;
  static constexpr std::uint32_t kStageBytes = kLaneBytes * kWarpThreads;
  /// Stages of the ring of a warp: 24 KiB of plain pages, with two blocks of four warps on a
  /// multiprocessor, or 16 KiB of packed ones, with three.
  static constexpr int kRing = static_cast<int>(
      std::clamp<std::uint32_t>((Keys::kIsPacked ? 16u << 10 : 24u << 10) / kStageBytes, 3, 12));
  // Tiles whose stages may be in the ring at once.
  static constexpr int kTilesAhead = (kRing + kStages - 1) / kStages + 1;
  static constexpr std::uint32_t kPositionBytes = kTileSlots * sizeof(std::int32_t);
  static constexpr std::uint32_t kStagesBytes = kRing * kStageBytes;
  /// Memory of a warp, and of the queries of a unit.
  static constexpr std::uint32_t kWarpBytes = kStagesBytes + kTilesAhead * kPositionBytes;
  static constexpr std::uint32_t kQueryBytes = kDim / 16 * kUnitBytes;

  /// Fills the ring: the stages of a warp's tiles `tile`, `tile` + kWarps, ... below `end`.
  struct Reader {
    const DecodeParams& params;
    TileCursor cursor;
    TileSource source;  // of `tile`
    TileSource next;    // its page pointers are on their way while `tile` is copied
    std::int32_t tile;
    std::int32_t end;
    const Readable& readable;
    std::uint32_t ring;  // in shared memory
    std::uint32_t positions;
    Place keys;  // for which this lane copies
    Place values;
    int slot = 0;      // of the ring
    int position = 0;  // of the ring of positions

    __device__ Reader(const DecodeParams& all, const StreamView* streams, const Readable& by_row,
                      std::int32_t first, std::int32_t last, std::uint32_t memory, int lane_idx)
        : params(all),
          cursor(streams),
          tile(first),
          end(last),
          readable(by_row),
          ring(memory),
          positions(memory + kStagesBytes),
          keys(key_copier(lane_idx, all.sealed.num_slots)),
          values(value_copier(lane_idx)) {}
    __device__ void start() {
      source = find(tile);
      if (tile + kWarps < end) next = find(tile + kWarps);
    }
    __device__ TileSource find(std::int32_t i) {
      cursor.seek(params, i);
      return cursor.source(params, i, keys, values);
    }
    /// Starts the copies of the next stage, which is that one of its tile.
    __device__ __forceinline__ void copy(int stage) {
      if (tile < end) {
        const std::uint32_t to = ring + slot * kStageBytes;
        if (stage < Keys::kStages) {
          Keys::copy(to, params.sealed, source, keys, stage);
        } else {
          if (stage == Keys::kStages) Values::copy_scales(to, params.sealed, source, keys);
          Values::copy(to, params.sealed, source, values, stage - Keys::kStages);
        }
        if (stage == 0 && !readable.has_all_sealed() && keys.t < 2) {
          copy16(
              positions + position * kPositionBytes + (2 * keys.g + keys.t) * 16,
              source.key_page + params.sealed.position_bytes + (source.key_slot + 4 * keys.t) * 4);
        }
        if (stage == kStages - 1) {
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

  // Copies that a unit begins with: what else it needs waits for memory behind them.
  static constexpr int kFirstStages = 1;

  const DecodeParams& params;
  const StreamView* streams;
  std::int32_t tile;
  std::int32_t end;
  std::uint32_t memory;
  int lane_idx;
  Readable readable;
  Reader reader;

  /// The sealed tiles `first`, `first` + kWarps, ... below `last` of a unit, for a warp with so
  /// much shared memory.
  __device__ StagedTiles(const DecodeParams& all, const StreamView* of_unit, const Readable& by_row,
                         std::int32_t first, std::int32_t last, std::uint32_t shared, int lane)
      : params(all),
        streams(of_unit),
        tile(first),
        end(last),
        memory(shared),
        lane_idx(lane),
        readable(by_row),
        reader(all, of_unit, by_row, first, last, shared, lane) {}

  /// Starts the first copies.
  __device__ void start() {
    if (tile >= end) return;
    reader.start();
    fill(0, kFirstStages);
  }

  /// Starts the copies of stages [begin, end) of the ring.
  __device__ void fill(int begin, int last) {
#pragma unroll 1
    for (int i = begin; i < last; ++i) reader.copy(i % kStages);
  }

  /// Scores of slots that are not readable, or not of the first `num_blocks` blocks of a tile,
  /// become -inf.
  __device__ void mask(std::uint32_t positions, const Place& lane, std::int32_t num_blocks,
                       float (&scores)[kRowTiles][4]) const {
    const bool is_there = lane.g / 2 < num_blocks;
    const uint4 front = load_shared16(positions + lane.g * 32);
    const uint4 back = load_shared16(positions + lane.g * 32 + 16);
    const std::uint32_t all[kRowTiles][2] = {
        {front.x, front.y}, {front.z, front.w}, {back.x, back.y}, {back.z, back.w}};
    const auto is_read = [&](std::uint32_t held) {
      return is_there &&
             (readable.has_all_sealed() || readable.contains(static_cast<std::int32_t>(held)));
    };
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      if (!is_read(all[r][0])) scores[r][0] = scores[r][1] = -INFINITY;
      if (!is_read(all[r][1])) scores[r][2] = scores[r][3] = -INFINITY;
    }
  }

  /// After start(): adds all tiles to sums. `queries`: shared memory of stage_queries.
  __device__ void attend(std::uint32_t queries, Softmax& softmax, typename Values::Sums& sums) {
    if (tile >= end) return;
    fill(kFirstStages, kRing - 1);
    const std::uint32_t q = queries + lane_idx * 16;
    const Place lane{lane_idx / 4, lane_idx % 4};
    TileCursor cursor(streams);
    int slot = 0;
    int position = 0;
    const auto stage_at = [&] {
      wait_for_copies<kRing - 2>();
      __syncwarp();  // for those of other lanes, and theirs of what the next copies replace
      return memory + slot * kStageBytes;
    };
    // The stage that is as far ahead of the one that was read as the ring is long.
    const auto advance = [&](int stage) {
      slot = slot + 1 == kRing ? 0 : slot + 1;
      reader.copy((stage + kRing - 1) % kStages);
    };
#pragma unroll 1
    for (; tile < end; tile += kWarps) {
      cursor.seek(params, tile);
      const std::int32_t num_blocks = cursor.blocks_left(params, tile);
      float scores[kRowTiles][4] = {};
#pragma unroll
      for (int stage = 0; stage < Keys::kStages; ++stage) {
        Keys::multiply(stage_at(), lane, q, stage, scores);
        advance(stage);
      }
      if (!readable.has_all_sealed() || num_blocks < kTileBlocks) {
        mask(memory + kStagesBytes + position * kPositionBytes, lane, num_blocks, scores);
      }
      position = position + 1 == kTilesAhead ? 0 : position + 1;
      softmax.weigh(scores, sums);
#pragma unroll
      for (int stage = 0; stage < Values::kStages; ++stage) {
        const std::uint32_t from = stage_at();
        if (stage == 0) sums.prepare(from, lane, scores);
        sums.multiply(from, lane, stage);
        advance(Keys::kStages + stage);
      }
    }
    wait_for_copies<0>();
  }

  /// Queries of a unit as fragments, scaled so that exponents are to base 2.
  static __device__ void stage_queries(const DecodeParams& params, const QueryRows<kDim>& q,
                                       char* memory) {
    auto* to = reinterpret_cast<uint4*>(memory);
    constexpr float kLog2E = 1.44269504088896f;
    const float scale = params.scale * kLog2E;
    for (int i = static_cast<int>(threadIdx.x); i < kDim / 16 * kWarpThreads; i += kThreads) {
      const int step = i / kWarpThreads;
      const int head = i % kWarpThreads / 4;
      float x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int d = Keys::channel(step, i % 4, j);
        x[j] = q.of(head)[d] * scale;
      }
      const SplitPair low = split<typename Keys::Number>(x[0], x[1]);
      const SplitPair high = split<typename Keys::Number>(x[2], x[3]);
      to[i] = {low.high, high.high, low.low, high.low};
    }
  }
};

}  // namespace pikv::kernels::cuda
