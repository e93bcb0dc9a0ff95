// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void gather_rows(Exec& exec, const GatherRowsArgs& args) {
  require(args.out.extent(0) == args.indices.extent(0) && args.out.extent(1) == args.table.cols,
          "gather_rows", "out is [", args.out.extent(0), ", ", args.out.extent(1), "], expected [",
          args.indices.extent(0), ", ", args.table.cols, "]");
  if (args.out.size() == 0) return;
  run_on(exec, args, cpu::gather_rows, cuda::gather_rows);
}

void combine_rows(Exec& exec, const CombineRowsArgs& args) {
  require(args.slots.extents == args.weights.extents &&
              args.slots.extent(0) == args.out.extent(0) &&
              args.rows.extent(1) == args.out.extent(1),
          "combine_rows", "rows, slots, weights and out do not fit together");
  if (args.out.size() == 0) return;
  run_on(exec, args, cpu::combine_rows, cuda::combine_rows);
}

}  // namespace pikv::kernels
