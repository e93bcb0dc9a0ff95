// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The experts of a mixture for many rows, on tensor cores (grouped_product.cuh).
#pragma once

#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

/// Runs `args` if it is of bfloat16 weights and of so many rows that a tile of 128 is worth it;
/// false, and nothing done, if not. Sums are in float32, products as Exec::product_dtype() has it.
[[nodiscard]] bool run_experts_of_many_rows(Exec& exec, const ExpertsArgs& args);

}  // namespace pikv::kernels::cuda
