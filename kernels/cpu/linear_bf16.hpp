// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of many rows with both sides in bfloat16 and sums in float32: two multiplications where
// float32 has one, on machines with a bfloat16 dot product (AVX512_BF16).
#pragma once

#include <cstdint>

#include "kernels/common/dtype.hpp"

namespace pikv::kernels::cpu {

/// Bytes of scratch that multiply_bf16 uses.
[[nodiscard]] std::size_t bf16_scratch_bytes(std::int64_t num_rows, std::int64_t k,
                                             std::int64_t outputs);

/// y[t, n] = sum over k of round(x[t, k]) weight[n, k] + bias[n] for x [num_rows, K] and weight
/// [outputs, K]; y has y_stride floats a row. round: to the nearest bfloat16, ties to even.
void multiply_bf16(const float* x, std::int64_t num_rows, const BFloat16* weight,
                   std::int64_t outputs, std::int64_t k, const float* bias, float* y,
                   std::int64_t y_stride, std::byte* scratch);

}  // namespace pikv::kernels::cpu
