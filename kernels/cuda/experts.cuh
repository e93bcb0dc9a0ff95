// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the kernels of the experts of a mixture share, of one row, few or many.
#pragma once

#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

/// Whether this GPU has the matrices of an expert.
[[nodiscard]] __device__ __forceinline__ bool is_here(const ExpertMatrices* table,
                                                      std::int32_t expert) {
  return table[expert].gate != nullptr;
}

/// x / (1 + exp(-x))
[[nodiscard]] __device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

/// y of the outputs of all pairs, in the order of each row's choices.
void sum_experts(Exec& exec, const ExpertsArgs& args);

}  // namespace pikv::kernels::cuda
