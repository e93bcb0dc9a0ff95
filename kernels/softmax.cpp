// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void softmax(Exec& exec, const SoftmaxArgs& args) {
  require(args.lengths.extent(0) == args.x.extent(0), "softmax", args.lengths.extent(0),
          " lengths for ", args.x.extent(0), " rows");
  if (args.x.size() == 0) return;
  run_on(exec, args, cpu::softmax, cuda::softmax);
}

}  // namespace pikv::kernels
