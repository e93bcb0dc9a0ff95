// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void silu_mul(Exec& exec, const SiluMulArgs& args) {
  require(args.gate.extents == args.out.extents && args.up.extents == args.out.extents, "silu_mul",
          "gate, up and out differ in shape");
  if (args.out.size() == 0) return;
  run_on(exec, args, cpu::silu_mul, cuda::silu_mul);
}

void add(Exec& exec, const AddArgs& args) {
  require(args.x.extents == args.y.extents, "add", "x and y differ in shape");
  if (args.y.size() == 0) return;
  run_on(exec, args, cpu::add, cuda::add);
}

void sigmoid_gated_add(Exec& exec, const SigmoidGatedAddArgs& args) {
  require(args.x.extents == args.y.extents && args.gate.extent(0) == args.x.extent(0),
          "sigmoid_gated_add", "gate, x and y differ in rows or x and y in shape");
  if (args.y.size() == 0) return;
  run_on(exec, args, cpu::sigmoid_gated_add, cuda::sigmoid_gated_add);
}

void clamp(Exec& exec, const ClampArgs& args) {
  require(args.limit > 0, "clamp", "limit = ", args.limit, " is not positive");
  if (args.x.size() == 0) return;
  run_on(exec, args, cpu::clamp, cuda::clamp);
}

}  // namespace pikv::kernels
