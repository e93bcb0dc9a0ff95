// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void attention(Exec& exec, const AttentionArgs& args) {
  const auto [num_rows, num_heads, head_dim] = args.q.extents;
  require(args.num_kv_heads > 0 && num_heads % args.num_kv_heads == 0, "attention",
          "num_heads = ", num_heads, " is not a multiple of num_kv_heads = ", args.num_kv_heads);
  require(args.o.extents == args.q.extents && args.lse.extent(0) == num_rows &&
              args.lse.extent(1) == num_heads && args.positions.extent(0) == num_rows,
          "attention", "q, positions, o and lse do not fit together");
  require_pages_fit("attention", args.sealed_layouts, args.open_layout, head_dim);
  require_can_rebuild("attention", exec.device(), args);
  require(!args.window || *args.window > 0, "attention", "window = ", args.window.value_or(0),
          " is not positive");
  if (args.adds_to_columns) {
    require(!args.open_layout.columns.empty(), "attention", "the pages have no columns to add to");
    require(args.column_decay >= 0 && args.column_decay < 1, "attention",
            "column_decay = ", args.column_decay, " is outside [0, 1)");
    if (exec.device() == Device::kCuda) throw NotBuilt("attention: adding to columns on a GPU");
  }
  for (std::int64_t i = 0; i < args.segments.extent(0); ++i) {
    if (exec.device() == Device::kCuda) break;  // segments lie on the device
    const AttentionSegment& segment = args.segments.data[i];
    require(segment.scores == nullptr || segment.row_end - segment.row_begin == 1, "attention",
            "scores are stored for single rows, not for ", segment.row_end - segment.row_begin);
  }
  if (args.q.size() == 0) return;
  run_on(exec, args, cpu::attention, cuda::attention);
}

}  // namespace pikv::kernels
