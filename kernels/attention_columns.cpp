// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_columns.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void attention_columns(Exec& exec, const AttentionColumnsArgs& args) {
  const auto [num_rows, num_heads, head_dim] = args.q.extents;
  require(args.num_kv_heads > 0 && num_heads % args.num_kv_heads == 0, "attention_columns",
          "num_heads = ", num_heads, " is not a multiple of num_kv_heads = ", args.num_kv_heads);
  require(args.lse.extent(0) == num_rows && args.lse.extent(1) == num_heads &&
              args.positions.extent(0) == num_rows,
          "attention_columns", "q, positions and lse do not fit together");
  require_pages_fit("attention_columns", args.sealed_layouts, args.open_layout, head_dim);
  require_can_rebuild("attention_columns", exec.device(), args);
  require(!args.open_layout.columns.empty(), "attention_columns", "the pages have no columns");
  const AttentionColumns& columns = args.open_layout.columns;
  require(
      columns.has(AttentionColumn::kDecayed) || !(columns.has(AttentionColumn::kDecayedSum) ||
                                                  columns.has(AttentionColumn::kDecayedSquareSum)),
      "attention_columns", "sums of decayed attention without the decayed attention");
  require(args.decay >= 0 && args.decay < 1, "attention_columns", "decay = ", args.decay,
          " is outside [0, 1)");
  if (args.q.size() == 0) return;
  run_on(exec, args, cpu::attention_columns, cuda::attention_columns);
}

}  // namespace pikv::kernels
