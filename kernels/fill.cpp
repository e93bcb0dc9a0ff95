// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/fill.hpp"

#include "kernels/common/backend_choice.hpp"

namespace pikv::kernels {

void fill_uniform(Exec& exec, const FillUniformArgs& args) {
  require(args.count >= 0 && args.limit >= 0, "fill_uniform", args.count, " numbers up to ",
          args.limit);
  if (args.count == 0) return;
  run_on(exec, args, cpu::fill_uniform, cuda::fill_uniform);
}

}  // namespace pikv::kernels
