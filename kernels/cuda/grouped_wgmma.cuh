// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The products of grouped_product.cuh on the tensor cores of Hopper: blocks that stay, one a
// multiprocessor, in which one warpgroup brings slabs of rows and weights through a ring and two
// multiply, 64 rows by 256 outputs each (grouped_shared.cuh). Weights come by the copy engine; so
// do rows of the second product, which lie one behind the other. Rows of the first are gathered,
// 16 bytes a copy.
#pragma once

#include "kernels/cuda/grouped_product.cuh"

namespace pikv::kernels::cuda {

/// multiply_gate_up and multiply_down; false, and nothing done, where the GPU is of another kind or
/// num_inputs or num_outputs is no multiple of 64.
[[nodiscard]] bool multiply_gate_up_on_hopper(Exec& exec, const GroupedProduct& product,
                                              std::int64_t max_tiles);
[[nodiscard]] bool multiply_down_on_hopper(Exec& exec, const GroupedProduct& product,
                                           std::int64_t max_tiles);

}  // namespace pikv::kernels::cuda
