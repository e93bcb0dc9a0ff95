// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How prefill attention is divided. The query heads of a KV head read the same keys, so a row and a
// head of the group together are a line: line i of a segment is row i / G and head i % G. An item
// of work is kItemLines lines of one segment and KV head, fewer at its end, with all that they
// read. Blocks take items from a counter, head after head, so that those that run together read
// what the second-level cache can hold; the last lines of a segment, which read most, come first.
// What an item computes does not depend on who takes it.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/boxes.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/streams.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kItemLines = 128;

/// Where the parts of a page begin, in bytes.
struct PlainPage {
  std::int64_t value_bytes;
  std::int64_t position_bytes;
};

struct PrefillParams {
  const float* __restrict__ q;                    // [T, H, D]
  const std::int32_t* __restrict__ positions;     // [T]
  const AttentionSegment* __restrict__ segments;  // [num_segments]
  const StreamView* __restrict__ streams;
  float* __restrict__ o;            // [T, H, D]
  float* __restrict__ lse;          // [T, H]
  LongSegments* __restrict__ left;  // exist: 0 if there is nothing to do; no item is taken yet
  bool skips_single_rows;
  std::int64_t num_segments;
  std::int32_t num_heads;     // H
  std::int32_t num_kv_heads;  // Hkv
  std::int32_t group_size;    // G
  std::int32_t num_slots;     // P
  std::int64_t window;
  float scale;  // positive
  PlainPage sealed;
  PlainPage open;  // float32
  // Of sealed pages, where blocks come in boxes: kBoxColumns slots of all channels of keys, and
  // kBoxColumns channels of as many slots of values.
  CUtensorMap key_boxes;
  CUtensorMap value_boxes;
};

struct PrefillItem {
  std::int32_t first_row;   // of the segment, in q
  std::int32_t num_lines;   // of the segment; 0: there is no item left
  std::int32_t first_line;  // of the item
  std::int32_t kv_head;
  std::int64_t first_stream;
  std::int32_t num_streams;

  /// Where line i of the segment is among the T x H rows of heads. Lines past the end are the last.
  __device__ __forceinline__ std::int64_t place(const PrefillParams& params, std::int32_t i) const {
    const std::int32_t line = min(i, num_lines - 1);
    return std::int64_t{first_row + line / params.group_size} * params.num_heads +
           kv_head * params.group_size + line % params.group_size;
  }
  __device__ __forceinline__ std::int32_t position(const PrefillParams& params,
                                                   std::int32_t i) const {
    return params.positions[first_row + min(i, num_lines - 1) / params.group_size];
  }
};

/// The positions after < p <= last, in the type of positions.
struct ReadRange {
  std::int32_t after;
  std::int32_t last;

  /// One comparison: what is not inside wraps around to more than the length.
  __device__ __forceinline__ bool contains(std::int32_t position) const {
    const auto start = static_cast<std::uint32_t>(after) + 1;
    return static_cast<std::uint32_t>(position) - start <
           static_cast<std::uint32_t>(last) + 1 - start;
  }
};

/// What the rows at positions `first` to `last` read: what one of them reads. Of one row, exactly.
__device__ __forceinline__ ReadRange read_range(const PrefillParams& params, std::int32_t first,
                                                std::int32_t last) {
  constexpr std::int64_t kLowest = -std::int64_t{kNoPosition};
  const std::int64_t after = first - params.window;
  return {static_cast<std::int32_t>(after > kLowest ? after : kLowest), last};
}

__device__ __forceinline__ std::int32_t item_count(const PrefillParams& params, std::int64_t i) {
  if (i >= params.num_segments) return 0;
  const std::int32_t num_rows = params.segments[i].row_end - params.segments[i].row_begin;
  if (num_rows <= 0 || (num_rows == 1 && params.skips_single_rows)) return 0;
  return (num_rows * params.group_size + kItemLines - 1) / kItemLines;
}

/// Items of one KV head; for a whole warp.
__device__ __forceinline__ std::int32_t count_items(const PrefillParams& params, int lane) {
  std::int32_t count = 0;
  for (std::int64_t i = lane; i < params.num_segments; i += kWarpThreads) {
    count += item_count(params, i);
  }
  return static_cast<std::int32_t>(__reduce_add_sync(kWholeWarp, static_cast<unsigned>(count)));
}

/// Item `taken` of Hkv x num_items, the last lines first; for a whole warp.
__device__ __forceinline__ PrefillItem find_item(const PrefillParams& params, std::uint32_t taken,
                                                 std::int32_t num_items, int lane) {
  PrefillItem item{};
  const auto num_kv_heads = static_cast<std::uint32_t>(params.num_kv_heads);
  const auto num_of_head = static_cast<std::uint32_t>(num_items);
  if (taken >= num_of_head * num_kv_heads) return item;
  const std::uint32_t of_head = taken % num_of_head;
  item.kv_head = static_cast<std::int32_t>(taken / num_of_head);
  std::int32_t left = num_items - 1 - static_cast<std::int32_t>(of_head);
  for (std::int64_t base = 0; base < params.num_segments; base += kWarpThreads) {
    const std::int32_t mine = item_count(params, base + lane);
    std::int32_t until = mine;  // items of the lanes up to this one
    for (int step = 1; step < kWarpThreads; step *= 2) {
      const std::int32_t before = __shfl_up_sync(kWholeWarp, until, step);
      if (lane >= step) until += before;
    }
    const unsigned beyond = __ballot_sync(kWholeWarp, until > left);
    if (beyond != 0) {
      const int at = __ffs(static_cast<int>(beyond)) - 1;
      const AttentionSegment& segment = params.segments[base + at];
      item.first_line = (left - __shfl_sync(kWholeWarp, until - mine, at)) * kItemLines;
      item.first_row = segment.row_begin;
      item.num_lines = (segment.row_end - segment.row_begin) * params.group_size;
      item.first_stream = segment.first_stream + std::int64_t{item.kv_head} * segment.num_streams;
      item.num_streams = segment.num_streams;
      return item;
    }
    left -= __shfl_sync(kWholeWarp, until, kWarpThreads - 1);
  }
  return item;
}

}  // namespace pikv::kernels::cuda
