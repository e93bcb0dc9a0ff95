// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Which slots an item of prefill attention reads. A warpgroup looks at the positions of
// kGroupThreads blocks of slots at once, stream after stream, and puts those that some line
// of the item may read into a ring in shared memory, in their order.
#pragma once

#include <cstdint>

#include "kernels/cuda/prefill_shared.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kProducerBarrier = 1;

__device__ __forceinline__ const std::byte* positions_of(const PrefillParams& params,
                                                         const FoundBlock& block) {
  const PlainPage& page = block.is_open != 0 ? params.open : params.sealed;
  return block.page + page.position_bytes + std::int64_t{block.slot} * sizeof(std::int32_t);
}

template <class Shape>
class BlockFinder {
  static constexpr int kWarps = kGroupThreads / kWarpThreads;

 public:
  __device__ BlockFinder(const PrefillParams& params, PrefillShared<Shape>& shared, int thread)
      : params_(params),
        shared_(shared),
        thread_(thread),
        page_blocks_(params.num_slots / Shape::kBlockSlots) {}

  /// Once nothing is left of the item before.
  __device__ void begin(const PrefillItem& item) {
    const std::int32_t last_line = item.first_line + kItemLines - 1;
    range_ = read_range(params_, item.position(params_, item.first_line),
                        item.position(params_, last_line));
    next_stream_ = params_.streams + item.first_stream;
    end_stream_ = next_stream_ + item.num_streams;
    num_blocks_ = 0;
    next_block_ = 0;
  }

  /// Looks at the next blocks, one a thread. False if there were none.
  __device__ bool look() {
    while (next_block_ >= num_blocks_) {
      if (next_stream_ == end_stream_) return false;
      stream_ = *next_stream_++;
      num_blocks_ = num_pages_of(stream_) * page_blocks_;
      next_block_ = 0;
      next_page_ = page_of_block(thread_);
    }
    const std::int32_t i = next_block_ + thread_;
    FoundBlock block{next_page_, i % page_blocks_ * Shape::kBlockSlots,
                     i / page_blocks_ >= stream_.num_sealed_pages ? 1 : 0};
    // Which page comes next is asked for early: its positions are another way to memory.
    next_block_ += kGroupThreads;
    next_page_ = page_of_block(next_block_ + thread_);
    PositionSpan span{kNoPosition, -kNoPosition};
    add(i < num_blocks_ && inspect(block, span), block, span);
    return true;
  }

  [[nodiscard]] __device__ int num_found() const { return static_cast<int>(end_ - begin_); }
  /// Block b of the first `count`; after them the last one again, which gives slots that no line
  /// reads finite numbers.
  [[nodiscard]] __device__ const FoundBlock& found(int b, int count) const {
    return shared_.found[place(min(b, count - 1))];
  }
  /// Of the first `count` blocks.
  [[nodiscard]] __device__ PositionSpan span(int count) const {
    PositionSpan all = shared_.spans[place(0)];
    for (int b = 1; b < count; ++b) {
      const PositionSpan& span = shared_.spans[place(b)];
      all.lowest = min(all.lowest, span.lowest);
      all.highest = max(all.highest, span.highest);
    }
    return all;
  }
  __device__ void drop(int count) { begin_ += static_cast<std::uint32_t>(count); }

 private:
  [[nodiscard]] __device__ std::uint32_t place(int b) const {
    return (begin_ + static_cast<std::uint32_t>(b)) % kFoundBlocks;
  }

  /// The page of block i of the stream, or null.
  [[nodiscard]] __device__ std::byte* page_of_block(std::int32_t i) const {
    if (i >= num_blocks_) return nullptr;
    const std::int32_t page = i / page_blocks_;
    return page < stream_.num_sealed_pages ? stream_.sealed_pages[page] : stream_.open_page;
  }

  /// Whether a line may read the block.
  __device__ bool inspect(const FoundBlock& block, PositionSpan& span) const {
    const auto* positions = reinterpret_cast<const int4*>(positions_of(params_, block));
    bool is_read = false;
#pragma unroll 8
    for (int j = 0; j < Shape::kBlockSlots / 4; ++j) {
      const int4 four = positions[j];
      for (const std::int32_t position : {four.x, four.y, four.z, four.w}) {
        is_read = is_read || range_.contains(position);
        span.lowest = min(span.lowest, position);
        span.highest = max(span.highest, position);
      }
    }
    return is_read;
  }

  /// Adds the blocks of the threads that have one to the ring.
  __device__ void add(bool has_one, const FoundBlock& block, const PositionSpan& span) {
    const int lane = thread_ % kWarpThreads;
    const int warp = thread_ / kWarpThreads;
    const unsigned finders = __ballot_sync(kWholeWarp, has_one);
    if (lane == 0) shared_.num_found[warp] = __popc(finders);
    wait_among<kGroupThreads>(kProducerBarrier);  // all are done with blocks found before, too
    std::uint32_t at = end_ + static_cast<std::uint32_t>(__popc(finders & ((1u << lane) - 1)));
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const auto count = static_cast<std::uint32_t>(shared_.num_found[w]);
      at += w < warp ? count : 0;
      end_ += count;
    }
    if (has_one) {
      shared_.found[at % kFoundBlocks] = block;
      shared_.spans[at % kFoundBlocks] = span;
    }
    wait_among<kGroupThreads>(kProducerBarrier);
  }

  const PrefillParams& params_;
  PrefillShared<Shape>& shared_;
  int thread_;
  std::int32_t page_blocks_;
  ReadRange range_{};
  const StreamView* next_stream_ = nullptr;
  const StreamView* end_stream_ = nullptr;
  StreamView stream_{};
  std::int32_t num_blocks_ = 0;     // of the stream
  std::int32_t next_block_ = 0;     // to be looked at, of the stream
  std::byte* next_page_ = nullptr;  // of this thread's block then
  std::uint32_t begin_ = 0;         // of what was found, counted from the start
  std::uint32_t end_ = 0;
};

}  // namespace pikv::kernels::cuda
