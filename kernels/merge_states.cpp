// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_states.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void merge_states(Exec& exec, const MergeStatesArgs& args) {
  require(args.from_o.extents == args.into_o.extents &&
              args.from_lse.extents == args.into_lse.extents &&
              args.from_o.extent(0) == args.from_lse.extent(0) &&
              args.from_o.extent(1) == args.from_lse.extent(1),
          "merge_states", "the two states differ in shape");
  if (args.from_o.size() == 0) return;
  run_on(exec, args, cpu::merge_states, cuda::merge_states);
}

}  // namespace pikv::kernels
