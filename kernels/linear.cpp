// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void linear(Exec& exec, const LinearArgs& args) {
  require(args.x.extent(1) == args.weight.cols, "linear", "x has ", args.x.extent(1),
          " columns, the weight has ", args.weight.cols);
  require(args.y.extent(0) == args.x.extent(0) && args.y.extent(1) == args.weight.rows, "linear",
          "y is [", args.y.extent(0), ", ", args.y.extent(1), "], expected [", args.x.extent(0),
          ", ", args.weight.rows, "]");
  if (args.y.size() == 0) return;
  run_on(exec, args, cpu::linear, cuda::linear);
}

}  // namespace pikv::kernels
