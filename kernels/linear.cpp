// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.hpp"

#include "kernels/common/error.hpp"

namespace pikv::kernels {
namespace {

void check(const LinearArgs& args) {
  require(args.x.extent(1) == args.weight.cols, "linear", "x has ", args.x.extent(1),
          " columns, the weight has ", args.weight.cols);
  require(args.y.extent(0) == args.x.extent(0) && args.y.extent(1) == args.weight.rows, "linear",
          "y is [", args.y.extent(0), ", ", args.y.extent(1), "], expected [", args.x.extent(0),
          ", ", args.weight.rows, "]");
}

}  // namespace

void linear(Exec& exec, const LinearArgs& args) { linears(exec, {&args, 1}); }

void linears(Exec& exec, std::span<const LinearArgs> products) {
  for (const LinearArgs& args : products) check(args);
  exec.device() == Device::kCpu ? cpu::linears(exec, products) : cuda::linears(exec, products);
}

}  // namespace pikv::kernels
