// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_parts.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {
namespace {

void check_mask(const char* operation, std::uint64_t mask, std::int64_t num_parts) {
  require(num_parts <= kMaxParts, operation, num_parts, " parts exceed ", kMaxParts);
  require(num_parts == kMaxParts || mask >> num_parts == 0, operation,
          "the mask names more than the ", num_parts, " parts");
}

}  // namespace

void merge_parts(Exec& exec, const MergePartsArgs& args) {
  const auto [num_parts, rows, heads, dim] = args.from_o.extents;
  check_mask("merge_parts", args.mask, num_parts);
  require(args.from_lse.extents == std::array{num_parts, rows, heads} &&
              args.o.extents == std::array{rows, heads, dim} &&
              args.lse.extents == std::array{rows, heads},
          "merge_parts", "the parts and their merge differ in shape");
  if (args.lse.size() == 0) return;
  run_on(exec, args, cpu::merge_parts, cuda::merge_parts);
}

void sum_parts(Exec& exec, const SumPartsArgs& args) {
  const auto [num_parts, rows, cols] = args.from.extents;
  check_mask("sum_parts", args.mask, num_parts);
  require(args.y.extents == std::array{rows, cols}, "sum_parts",
          "the parts and their sum differ in shape");
  if (args.y.size() == 0) return;
  run_on(exec, args, cpu::sum_parts, cuda::sum_parts);
}

}  // namespace pikv::kernels
