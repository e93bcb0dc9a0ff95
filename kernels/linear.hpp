// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// y = x W^T (+ bias): the matrix product of every projection, with the weight as it lies in the
// checkpoint, [out, in] row-major. Products and sums are in float32 whatever the weight's type,
// unless the Exec asks for products of many rows with bfloat16 weights to be in bfloat16
// (Exec::set_product_dtype).
//
// CPU: few rows read the weight once in its own type (bound by its bytes); many rows widen it a
// tile at a time and go through BLAS. CUDA: cuBLAS for float32 weights and own kernels for few rows
// of 16-bit ones. More than one row against bfloat16 weights go to the tensor cores: x is the sum
// of three bfloat16 numbers, exactly (above 2^-133), so that each product is exact and only the
// sums round (those of an infinite weight are NaN where x is finite). More than 64 are rounded to
// one such number where the Exec asks for it, and take room of up to 256 MiB, or the parts of one
// row.
// Deterministic for equal shapes and threads. y may not alias x, weight or bias.
#pragma once

#include <span>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"
#include "kernels/rms_norm.hpp"

namespace pikv::kernels {

struct LinearArgs {
  View<const float, 2> x;       // [T, K]
  WeightView weight;            // [N, K]
  const float* bias = nullptr;  // [N], or null
  View<float, 2> y;             // [T, N]
};

void linear(Exec& exec, const LinearArgs& args);

/// Independent products, together: none reads what another writes. On the CPU their parts share one
/// round of threads, and on a GPU few rows of the same x one launch, which is what makes the many
/// small products of a decode step fast.
void linears(Exec& exec, std::span<const LinearArgs> products);

/// rms_norm, then products of its rows: their x is norm.y. A GPU does all of it for a single row in
/// one launch. `sum` may not be x here.
void normed_linears(Exec& exec, const RmsNormArgs& norm, std::span<const LinearArgs> products);

namespace cpu {
void linears(Exec& exec, std::span<const LinearArgs> products);
}
namespace cuda {
void linears(Exec& exec, std::span<const LinearArgs> products);
void normed_linears(Exec& exec, const RmsNormArgs& norm, std::span<const LinearArgs> products);
}  // namespace cuda

}  // namespace pikv::kernels
