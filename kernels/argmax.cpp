// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/argmax.hpp"

#include <limits>

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void argmax(Exec& exec, const ArgmaxArgs& args) {
  require(args.largest.extent(0) == args.x.extent(0), "argmax", "largest must be [",
          args.x.extent(0), "], not [", args.largest.extent(0), "]");
  if (args.x.extent(0) == 0) return;
  require(args.x.extent(1) > 0 && args.x.extent(1) <= std::numeric_limits<std::int32_t>::max(),
          "argmax", "rows of ", args.x.extent(1), " elements are outside [1, 2^31 - 1]");
  run_on(exec, args, cpu::argmax, cuda::argmax);
}

}  // namespace pikv::kernels
