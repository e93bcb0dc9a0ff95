// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The experts of one row with 16-bit weights: two launches, the second with the sum over them.
#pragma once

#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

/// Enqueues them; false, with nothing enqueued, for shapes that it has no kernel for.
[[nodiscard]] bool run_experts_of_one_row(Exec& exec, const ExpertsArgs& args);

}  // namespace pikv::kernels::cuda
