// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of a few rows with bfloat16 weights on tensor cores: decode steps of several sequences.
#pragma once

#include <span>

#include "kernels/linear.hpp"

namespace pikv::kernels::cuda {

/// Whether multiply_few_rows() takes these products, all of the same rows: bfloat16 weights whose
/// rows begin at 16 bytes.
[[nodiscard]] bool can_multiply_few_rows(std::span<const LinearArgs> products);

/// y of such products in one launch, or two of more than 8 rows; each weight is read once.
void multiply_few_rows(Exec& exec, std::span<const LinearArgs> products);

}  // namespace pikv::kernels::cuda
