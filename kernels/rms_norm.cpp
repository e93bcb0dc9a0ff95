// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void check_rms_norm(const RmsNormArgs& args) {
  require(args.x.extents == args.y.extents, "rms_norm", "x is [", args.x.extent(0), ", ",
          args.x.extent(1), "], y is [", args.y.extent(0), ", ", args.y.extent(1), "]");
  require((args.added == nullptr) == (args.sum == nullptr), "rms_norm",
          "'added' and 'sum' go together");
}

void rms_norm(Exec& exec, const RmsNormArgs& args) {
  check_rms_norm(args);
  if (args.x.size() == 0) return;
  run_on(exec, args, cpu::rms_norm, cuda::rms_norm);
}

}  // namespace pikv::kernels
