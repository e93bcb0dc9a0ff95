// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/page_bounds.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void summarize_pages(Exec& exec, const SummarizePagesArgs& args) {
  require(args.layout.key_bounds, "summarize_pages", "the page layout has no room for bounds");
  require_can_rebuild("summarize_pages", exec.device(), args.layout, args.inverse_frequencies,
                      args.key_bases, args.pages.size());
  if (args.pages.size() == 0) return;
  run_on(exec, args, cpu::summarize_pages, cuda::summarize_pages);
}

void page_bounds(Exec& exec, const PageBoundsArgs& args) {
  const auto [num_rows, num_heads, head_dim] = args.q.extents;
  require(args.num_kv_heads > 0 && num_heads % args.num_kv_heads == 0, "page_bounds",
          "num_heads = ", num_heads, " is not a multiple of num_kv_heads = ", args.num_kv_heads);
  require(args.open_layout.key_bounds, "page_bounds", "the page layouts have no bounds");
  require_pages_fit("page_bounds", args.sealed_layouts, args.open_layout, head_dim);
  require(args.positions.extent(0) == num_rows, "page_bounds", args.positions.extent(0),
          " positions for ", num_rows, " rows");
  require(!args.window || *args.window > 0, "page_bounds", "window = ", args.window.value_or(0),
          " is not positive");
  if (exec.device() == Device::kCuda) {  // segments lie there
    for (std::int64_t i = 0; i < args.sealed_layouts.size(); ++i) {
      if (args.sealed_layouts.data[i].keys.pre_rope) {
        throw NotBuilt("page_bounds: keys before RoPE on a GPU");
      }
    }
    return cuda::page_bounds(exec, args);
  }
  std::int64_t num_pages = 0;
  for (std::int64_t i = 0; i < args.segments.extent(0); ++i) {
    const AttentionSegment& segment = args.segments.data[i];
    require(segment.row_end - segment.row_begin == 1, "page_bounds", "a segment has ",
            segment.row_end - segment.row_begin, " rows instead of one");
    for (std::int64_t j = 0; j < segment.num_streams * std::int64_t{args.num_kv_heads}; ++j) {
      const StreamView& stream = args.streams.data[segment.first_stream + j];
      num_pages += stream.num_sealed_pages + (stream.open_page != nullptr ? 1 : 0);
    }
  }
  require(args.bounds.size() == num_pages, "page_bounds", "room for ", args.bounds.size(),
          " bounds of ", num_pages, " pages");
  if (num_pages == 0) return;
  cpu::page_bounds(exec, args);
}

}  // namespace pikv::kernels
