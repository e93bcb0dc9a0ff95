// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The warpgroup of prefill attention that brings queries and tiles (prefill_shared.cuh). Tiles are
// whatever blocks of slots the finder finds together. Sealed pages are copied while the threads go
// on; the open page is rounded on its way.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/prefill_box_copies.cuh"
#include "kernels/cuda/prefill_finder.cuh"
#include "kernels/cuda/prefill_piece_copies.cuh"

namespace pikv::kernels::cuda {

template <class Shape>
class PrefillProducer {
  using Number = typename Shape::Number;
  static constexpr int kDim = Shape::kDim;
  // Pieces of a row of channels, and rows that the threads copy at once.
  static constexpr int kRowPieces = kDim / kPieceElements;
  static constexpr int kRowsAtOnce = kGroupThreads / kRowPieces;
  static constexpr int kWarpRows = kWarpThreads / kRowPieces;  // of these, by a warp
  using Copies = std::conditional_t<Shape::kComesInBoxes, BoxCopies<Shape>, PieceCopies<Shape>>;

 public:
  __device__ PrefillProducer(const PrefillParams& params, PrefillShared<Shape>& shared,
                             std::uint32_t memory)
      : params_(params),
        shared_(shared),
        memory_(memory),
        thread_(static_cast<int>(threadIdx.x) % kGroupThreads),
        finder_(params, shared, thread_),
        copies_(params, thread_) {}

  __device__ void run() {
    const std::int32_t num_items = count_items(params_, thread_ % kWarpThreads);
    take();
    do {
      item_ = next_item(num_items);
      is_announced_ = false;
      if (item_.num_lines > 0) {
        take();
        fetch_queries();
        bring_tiles();
      }
      if (!is_announced_) announce(/*with_queries=*/false);
      if (item_.num_lines > 0) end_item();
    } while (item_.num_lines > 0);
  }

 private:
  /// Long before the answer is needed.
  __device__ void take() {
    if (thread_ == 0) taken_ = atomicAdd(&params_.left->num_items_taken, 1u);
  }

  /// The item that was taken last.
  __device__ PrefillItem next_item(std::int32_t num_items) {
    if (thread_ == 0) shared_.taken = taken_;
    wait_among<kGroupThreads>(kProducerBarrier);
    const std::uint32_t taken = shared_.taken;
    wait_among<kGroupThreads>(kProducerBarrier);  // it is written again
    return find_item(params_, taken, num_items, thread_ % kWarpThreads);
  }

  /// Says which item follows, once there is room for its queries.
  __device__ __forceinline__ void announce(bool with_queries) {
    wait_for_phase(shared_address(&shared_.queries_free[queries_.stage]), queries_.parity ^ 1);
    is_announced_ = true;
    if (thread_ == 0) shared_.items[queries_.stage] = item_;
    if (with_queries) copy_queries();
    arrive(shared_address(&shared_.queries_full[queries_.stage]));
    queries_.advance();
  }

  /// Has the queries come as near as the second-level cache. Lines that a warp copies are divided
  /// among its lanes, which look for one each, once.
  __device__ void fetch_queries() {
    static_assert(kItemLines == kGroupThreads);
    constexpr int kLineFloats = 32;
    const int lane = thread_ % kWarpThreads;
    const int line =
        lane / kWarpRows * kRowsAtOnce + thread_ / kWarpThreads * kWarpRows + lane % kWarpRows;
    place_ = item_.place(params_, item_.first_line + line);
#pragma unroll
    for (int i = 0; i < kDim; i += kLineFloats) prefetch(params_.q + place_ * kDim + i);
  }

  __device__ void copy_queries() {
    const int lane = thread_ % kWarpThreads;
    const int piece = thread_ % kRowPieces;
    const std::uint32_t to = memory_ + queries_.stage * Shape::kQueryStageBytes +
                             piece / kBlockPieces * Shape::kQueryBlockBytes;
#pragma unroll 4
    for (int i = 0; i < kItemLines / kRowsAtOnce; ++i) {
      const int line = thread_ / kRowPieces + i * kRowsAtOnce;
      const std::int64_t place = __shfl_sync(kWholeWarp, place_, i * kWarpRows + lane / kRowPieces);
      store_shared16(to + line / kGroupLines * Shape::kGroupQueryBytes +
                         swizzled_bytes(line % kGroupLines, piece % kBlockPieces),
                     rounded_piece<Number>(params_.q + place * kDim + piece * kPieceElements));
    }
    show_tensor_cores();
  }

  __device__ void bring_tiles() {
    finder_.begin(item_);
    for (bool has_more = true; has_more;) {
      has_more = finder_.look();
      const int enough = has_more ? Shape::kTileBlocks : 1;
      while (finder_.num_found() >= enough) {
        const int count = min(finder_.num_found(), Shape::kTileBlocks);
        bring_keys(count);
        if (!is_announced_) announce(/*with_queries=*/true);  // keys arrive meanwhile
        bring_values(count);
        finder_.drop(count);
      }
    }
  }

  /// The keys of the first `count` blocks.
  __device__ void bring_keys(int count) {
    const std::uint32_t keys = begin_keys();
    constexpr int kBlockPositions = Shape::kBlockSlots / 4;  // that are copied at once
    if (thread_ < Shape::kTileBlocks * kBlockPositions) {
      const FoundBlock& block = finder_.found(thread_ / kBlockPositions, count);
      copy16(shared_address(&shared_.positions[keys_.stage][thread_ * 4]),
             positions_of(params_, block) + thread_ % kBlockPositions * sizeof(int4));
    }
    const bool stores =
        copies_.keys(finder_, keys, shared_address(&shared_.keys_full[keys_.stage]), count);
    if (thread_ == 0) shared_.heads[keys_.stage] = {count, finder_.span(count)};
    end_keys(stores);
  }

  /// The values of the first `count` blocks.
  __device__ void bring_values(int count) {
    wait_for_phase(shared_address(&shared_.values_free[values_.stage]), values_.parity ^ 1);
    const std::uint32_t full = shared_address(&shared_.values_full[values_.stage]);
    const bool stores = copies_.values(
        finder_, memory_ + Shape::kValuesAt + values_.stage * Shape::kTileBytes, full, count);
    end_stage(full, stores);
    values_.advance();
  }

  __device__ void end_item() {
    begin_keys();
    if (thread_ == 0) shared_.heads[keys_.stage].num_blocks = 0;
    end_keys(false);
  }

  /// Where the next keys belong, once it is free.
  __device__ std::uint32_t begin_keys() {
    wait_for_phase(shared_address(&shared_.keys_free[keys_.stage]), keys_.parity ^ 1);
    return memory_ + Shape::kKeysAt + keys_.stage * Shape::kTileBytes;
  }
  __device__ void end_keys(bool stores) {
    end_stage(shared_address(&shared_.keys_full[keys_.stage]), stores);
    keys_.advance();
  }

  /// `stores`: whether this thread wrote anything to the tile itself. The first thread arrives for
  /// what is no copy of its own, too: the head of keys, and boxes.
  __device__ void end_stage(std::uint32_t full, bool stores) {
    if (thread_ == 0) arrive(full);
    if (stores) {
      commit_copies();
      wait_for_copies<0>();
      show_tensor_cores();
      arrive(full);
    } else {
      arrive_after_copies(full);
    }
  }

  const PrefillParams& params_;
  PrefillShared<Shape>& shared_;
  std::uint32_t memory_;
  int thread_;
  PrefillItem item_{};
  std::int64_t place_ = 0;  // of a line of the item
  bool is_announced_ = false;
  std::uint32_t taken_ = 0;  // of the first thread
  RingPlace<Shape::kQueryStages> queries_;
  RingPlace<Shape::kKeyStages> keys_;
  RingPlace<Shape::kValueStages> values_;
  BlockFinder<Shape> finder_;
  Copies copies_;
};

}  // namespace pikv::kernels::cuda
