// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of many rows with bfloat16 weights on tensor cores, through cuBLAS.
#pragma once

#include "kernels/linear.hpp"

namespace pikv::kernels::cuda {

/// Whether the product can be made of bfloat16 parts of x (bf16_parts.cuh). Float16 weights can
/// not: they have more bits than bfloat16, and x has a wider range than float16.
[[nodiscard]] inline bool can_split_rows(const LinearArgs& args) {
  return args.weight.dtype == DType::kBf16 && args.weight.cols > 0;
}

/// y of such a product, of any number of rows but none.
void multiply_many_rows(Exec& exec, const LinearArgs& args);

/// y[t] = bias for all rows, for products that add to y.
void fill_bias(Exec& exec, const LinearArgs& args);

}  // namespace pikv::kernels::cuda
