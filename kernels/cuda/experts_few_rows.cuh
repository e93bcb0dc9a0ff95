// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The experts of a few rows with bfloat16 weights on tensor cores: decode steps of several
// sequences, where the weights of an expert are read once for kExpertRows rows.
#pragma once

#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

/// Runs them if it takes these: bfloat16 weights, hidden and width multiples of 8, memory that
/// begins at 16 bytes. Else returns false.
[[nodiscard]] bool run_experts_of_few_rows(Exec& exec, const ExpertsArgs& args);

}  // namespace pikv::kernels::cuda
