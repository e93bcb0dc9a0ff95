// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

/// Whether this GPU has the matrices of an expert.
[[nodiscard]] __device__ __forceinline__ bool is_here(const ExpertMatrices* table,
                                                      std::int32_t expert) {
  return table[expert].gate != nullptr;
}

}  // namespace pikv::kernels::cuda
