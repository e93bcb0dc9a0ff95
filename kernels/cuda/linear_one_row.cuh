// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of one row with 16-bit weights: what a decode step of one sequence waits for.
#pragma once

#include <span>

#include "kernels/linear.hpp"

namespace pikv::kernels::cuda {

/// Whether the products are of the same single row and fit one launch of multiply_one_row.
[[nodiscard]] bool have_one_row(std::span<const LinearArgs> products);

/// Whether the norm's arrays lie as that launch reads them.
[[nodiscard]] bool can_norm_in_blocks(const RmsNormArgs& norm);

/// Enqueues them; with `norm`, of the row that it gives, which is x of all, and what else it says.
void multiply_one_row(Exec& exec, const RmsNormArgs* norm, std::span<const LinearArgs> products);

}  // namespace pikv::kernels::cuda
