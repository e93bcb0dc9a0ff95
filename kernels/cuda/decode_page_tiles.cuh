// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sealed tiles of a unit that are packed pages of the common form (decode_page.cuh). A warp reads
// ahead through a ring of stages in shared memory, in turn the keys of a page and its values: a
// stage is asked for as soon as the one in its place has been multiplied.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_cursor.cuh"
#include "kernels/cuda/decode_page_keys.cuh"
#include "kernels/cuda/decode_page_softmax.cuh"
#include "kernels/cuda/decode_page_values.cuh"
#include "kernels/cuda/decode_softmax.cuh"

namespace pikv::kernels::cuda {

template <Element kElement, int kHeadDim, int kNumWarps>
struct PageTiles {
  using Form = PageForm<kElement, kHeadDim>;
  using Queries = PageQueries<kElement, kHeadDim>;
  using Keys = PageKeys<kElement, kHeadDim>;
  using Values = PageValues<kElement, kHeadDim>;
  static constexpr int kDim = kHeadDim;
  static constexpr int kWarps = kNumWarps;
  static constexpr std::uint32_t kQueryBytes = Queries::kBytes;
  // Keys are followed by positions.
  static constexpr std::uint32_t kStageBytes = Form::kOperandBytes + Form::kPositionBytes;
  /// Stages for which so many blocks on a multiprocessor of sm_90, of 228 KiB, have room each.
  static constexpr int stages_of(int num_blocks) {
    const int block_bytes = (228 << 10) / num_blocks - (2 << 10);  // less what is not dynamic
    return (block_bytes - static_cast<int>(kQueryBytes + QueryRows<kDim>::kBytes)) /
           (kWarps * static_cast<int>(kStageBytes));
  }
  static constexpr int kMinBlocks = stages_of(2) >= 2 ? 2 : 1;
  static constexpr int kRing = std::clamp(stages_of(kMinBlocks), 2, 6);
  static constexpr std::uint32_t kWarpBytes = kRing * kStageBytes;

  static __device__ void stage_queries(const DecodeParams& params, const QueryRows<kDim>& q,
                                       char* memory) {
    Queries::template stage<kWarps>(params, q, memory);
  }

  /// Copies the pages of a warp: the tiles `tile`, `tile` + kWarps, ... below `end`.
  struct Reader {
    const DecodeParams& params;
    TileCursor cursor;  // of the lane
    std::int32_t tile;
    std::int32_t end;
    int lane_idx;
    const Readable& readable;
    std::uint32_t lane_bytes;
    const std::byte* page = nullptr;  // of `tile`
    // Pages of kWarpThreads tiles, each on a lane: reads wait once for all of them.
    const std::byte* found = nullptr;
    int num_taken = kWarpThreads;

    __device__ Reader(const DecodeParams& all, const StreamView* streams, const Readable& by_row,
                      std::int32_t first, std::int32_t last, int lane)
        : params(all),
          cursor(streams),
          tile(first),
          end(last),
          lane_idx(lane),
          readable(by_row),
          lane_bytes(16 * lane) {}

    /// Finds the page of `tile`.
    __device__ void take() {
      if (num_taken == kWarpThreads) {
        if (const std::int32_t i = tile + kWarps * lane_idx; i < end) {
          cursor.seek(params, i);
          found = cursor.stream->sealed_pages[i - cursor.first];
        }
        num_taken = 0;
      }
      page = reinterpret_cast<const std::byte*>(
          __shfl_sync(kWholeWarp, reinterpret_cast<std::uint64_t>(found), num_taken++));
    }
    __device__ void copy_keys(std::uint32_t to) {
      if (tile < end) {
        take();
        Form::template copy_operand<true>(to, page, lane_bytes);
        if (!readable.has_all_sealed()) {
          Form::template copy_flat<Form::kPositionBytes>(
              to + Form::kOperandBytes, page + 2 * Form::kOperandBytes, lane_bytes);
        }
      }
      commit_copies();
    }
    /// After its keys.
    __device__ void copy_values(std::uint32_t to) {
      if (tile < end) {
        Form::template copy_operand<false>(to, page + Form::kOperandBytes, lane_bytes);
        tile += kWarps;
      }
      commit_copies();
    }
  };

  /// Scores of slots that are not readable become -inf.
  static __device__ void mask(std::uint32_t positions, const Place& lane, std::int32_t after,
                              std::int32_t last, float (&scores)[kRowTiles][4]) {
    const auto contains = [&](std::uint32_t position) {
      const auto p = static_cast<std::int32_t>(position);
      return p <= last && p > after;
    };
    const uint2 two = load_shared8(positions + (4 * lane.g + lane.t) * 8);
    if (__all_sync(kWholeWarp, contains(two.x) && contains(two.y))) return;
    const uint4 front = load_shared16(positions + lane.g * 32);
    const uint4 back = load_shared16(positions + lane.g * 32 + 16);
    const std::uint32_t all[kRowTiles][2] = {
        {front.x, front.y}, {front.z, front.w}, {back.x, back.y}, {back.z, back.w}};
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      if (!contains(all[r][0])) scores[r][0] = scores[r][1] = -INFINITY;
      if (!contains(all[r][1])) scores[r][2] = scores[r][3] = -INFINITY;
    }
  }

  // Copies that a unit begins with: what else it needs waits for memory behind them.
  static constexpr int kFirstStages = 2;

  std::int32_t tile;
  std::int32_t end;
  std::uint32_t memory;
  int lane_idx;
  Readable readable;
  Reader reader;

  /// The sealed tiles `first`, `first` + kWarps, ... below `last` of a unit, for a warp with so
  /// much shared memory.
  __device__ PageTiles(const DecodeParams& params, const StreamView* streams,
                       const Readable& by_row, std::int32_t first, std::int32_t last,
                       std::uint32_t shared, int lane)
      : tile(first),
        end(last),
        memory(shared),
        lane_idx(lane),
        readable(by_row),
        reader(params, streams, by_row, first, last, lane) {}

  /// Starts the first copies.
  __device__ void start() {
    if (tile < end) fill<0, kFirstStages>();
  }
  /// Starts the copies of stages [kBegin, kEnd) of the ring.
  template <int kBegin, int kEnd>
  __device__ void fill() {
#pragma unroll
    for (int i = kBegin; i < kEnd; ++i) {
      i % 2 == 0 ? reader.copy_keys(memory + i * kStageBytes)
                 : reader.copy_values(memory + i * kStageBytes);
    }
  }

  /// After start(): adds all tiles to sums. `queries`: shared memory of stage_queries.
  __device__ void attend(std::uint32_t queries, Softmax& softmax, typename Values::Sums& sums) {
    if (tile >= end) return;
    fill<kFirstStages, kRing>();
    const Place lane{lane_idx / 4, lane_idx % 4};
    // Nobody stores a position of -2^31.
    const auto after =
        static_cast<std::int32_t>(max(readable.after, static_cast<std::int64_t>(INT32_MIN)));
    const uint2 units = load_shared8(queries + Queries::kUnitsBytes + lane.t * 8);
    const float unit[2] = {__uint_as_float(units.x), __uint_as_float(units.y)};
    PageSoftmax<Form> weights(softmax, sums);

    std::uint32_t stage = memory;
    const auto wait = [&] {
      wait_for_copies<kRing - 1>();
      __syncwarp();  // for those of other lanes
    };
    const auto pass = [&] {
      stage = stage + kStageBytes == memory + kWarpBytes ? memory : stage + kStageBytes;
    };
#pragma unroll 1
    for (; tile < end; tile += kWarps) {
      float scores[kRowTiles][4] = {};
      float low[2] = {};
      wait();
      Keys::multiply(stage, queries, lane, scores, low);
      if (!readable.has_all_sealed()) {
        mask(stage + Form::kOperandBytes, lane, after, readable.last, scores);
      }
      __syncwarp();  // all have read what is replaced
      kRing % 2 == 0 ? reader.copy_keys(stage) : reader.copy_values(stage);
      pass();
      weights.weigh(unit, low, scores, sums);
      wait();
      sums.multiply(stage, queries + Queries::kOnesBytes, lane, scores);
      __syncwarp();
      kRing % 2 == 0 ? reader.copy_values(stage) : reader.copy_keys(stage);
      pass();
    }
    wait_for_copies<0>();
    weights.leave(lane, sums, softmax);
  }
};

}  // namespace pikv::kernels::cuda
