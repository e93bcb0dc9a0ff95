// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a page could matter to a query, known without reading its keys (Quest; Tang et al. 2024,
// 2406.10774, section 3.3). With m and M the smallest and the largest of each channel over the keys
// of a page,
//
//   bound(q, page) = sum_d max(q_d m_d, q_d M_d) >= q . k_j   for every slot j of the page,
//
// up to the rounding of sums. Without the scale of attention, which changes no order.
//
// m and M lie in the page ([2, Db] floats at PageLayout::bounds_offset, what pads them is 0) and
// are those of the keys as attention reads them, rounded if the page is sealed in 16 bits.
// Deterministic for any number of threads, and on CUDA.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/attention.hpp"

namespace pikv::kernels {

/// Works out the bounds of whole pages anew, from the slots that have a position; zeros where there
/// are none. Whoever writes, moves or converts slots calls it afterwards; a slot that is only
/// hidden leaves bounds that hold, if wider than need be. Cost: each page's keys are read once.
struct SummarizePagesArgs {
  PageLayout layout;  // with key_bounds
  View<std::byte* const, 1> pages;
  // Where the layout has keys before RoPE (CPU only):
  View<const float* const, 1> key_bases = {};     // [pages], each [D, D]
  View<const float, 1> inverse_frequencies = {};  // [D / 2]
};
void summarize_pages(Exec& exec, const SummarizePagesArgs& args);

/// How the bounds of the G query heads of a group become one number of the page.
enum class GroupReduce : std::uint8_t { kMax, kMean };

struct PageBound {
  float bound;          // any number where newest is -1
  std::int32_t newest;  // the newest position of the page that the row may read; -1: none
};

struct PageBoundsArgs {
  View<const float, 3> q;                    // [T, H, D]
  View<const std::int32_t, 1> positions;     // [T]
  View<const AttentionSegment, 1> segments;  // of one row each
  View<const StreamView, 1> streams;
  std::int32_t num_kv_heads;                 // Hkv, divides H
  View<const PageLayout, 1> sealed_layouts;  // all with key_bounds
  PageLayout open_layout;
  std::optional<std::int32_t> window;
  GroupReduce reduce = GroupReduce::kMax;
  /// A page each: segment by segment, KV head by KV head, the pages of its streams in their order,
  /// an open page last of its stream. Only the CPU can refuse a wrong number of them; CUDA writes
  /// no more than there is room for.
  View<PageBound, 1> bounds;
};
/// Cost: 4 H D flops a page; of each page the bounds and the positions are read.
void page_bounds(Exec& exec, const PageBoundsArgs& args);

namespace cpu {
void summarize_pages(Exec& exec, const SummarizePagesArgs& args);
void page_bounds(Exec& exec, const PageBoundsArgs& args);
}  // namespace cpu
namespace cuda {
void summarize_pages(Exec& exec, const SummarizePagesArgs& args);
void page_bounds(Exec& exec, const PageBoundsArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
