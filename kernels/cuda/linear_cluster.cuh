// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of a few rows with bfloat16 weights on Hopper. A cluster of blocks divides the inputs
// among its blocks: each keeps its inputs of all rows in shared memory, in parts (bf16_parts.cuh),
// and so reads them once, while weights stream by; what comes of 64 outputs they add up in the
// order of their numbers. Where a block takes all inputs of its outputs (few_rows.cuh), rows come
// out of the second-level cache once a tile of 16 outputs, which for 32 rows takes six times as
// long as the weights out of memory.
#pragma once

#include <span>

#include "kernels/linear.hpp"

namespace pikv::kernels::cuda {

/// y of products of the same rows in one launch; each weight is read once for 32 rows. False, and
/// nothing done, where the GPU is of another kind, num_outputs or num_inputs is no multiple of 64,
/// or shared memory cannot hold a block's share of the rows.
[[nodiscard]] bool multiply_few_rows_in_clusters(Exec& exec, std::span<const LinearArgs> products);

}  // namespace pikv::kernels::cuda
