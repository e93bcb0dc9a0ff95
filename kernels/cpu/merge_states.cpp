// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_states.hpp"

#include "kernels/cpu/merge_row.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {
void merge_states(Exec& exec, const MergeStatesArgs& args) {
  const std::int64_t d = args.from_o.extent(2);
  parallel_ranges(exec, args.from_lse.size(), 1 + 16 * 1024 / d,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      merge_row(args.from_o.data + i * d, args.from_lse.data[i], d,
                                args.into_o.data + i * d, args.into_lse.data[i]);
                    }
                  });
}

}  // namespace pikv::kernels::cpu
