// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/experts.hpp"

#include "kernels/common/error.hpp"

namespace pikv::kernels {

void experts(Exec& exec, const ExpertsArgs& args) {
  require(exec.device() == Device::kCuda, "experts", "on a GPU only");
  const auto [num_rows, hidden] = args.x.extents;
  const std::int64_t num_pairs = args.experts.size();
  require(args.experts.extent(0) == num_rows && args.mix.extents == args.experts.extents &&
              args.y.extents == args.x.extents && args.inner.extent(0) == num_pairs &&
              args.outputs.extent(0) == num_pairs && args.outputs.extent(1) == hidden &&
              args.pairs.size() >= num_expert_words(num_pairs, args.table.size()),
          "experts", "x, experts, mix, y and the room between do not fit together");
  if (args.y.size() == 0) return;
  cuda::experts(exec, args);
}

}  // namespace pikv::kernels
