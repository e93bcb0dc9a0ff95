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

void normed_linears(Exec& exec, const RmsNormArgs& norm, std::span<const LinearArgs> products) {
  require(norm.sum == nullptr || norm.sum != norm.x.data, "linear", "the sum replaces x");
  for (const LinearArgs& args : products) {
    check(args);
    require(args.x.data == norm.y.data && args.x.extents == norm.y.extents, "linear",
            "x is not what the norm gives");
  }
  if (exec.device() == Device::kCuda && norm.x.size() > 0) {
    check_rms_norm(norm);
    cuda::normed_linears(exec, norm, products);
    return;
  }
  rms_norm(exec, norm);
  linears(exec, products);
}

}  // namespace pikv::kernels
