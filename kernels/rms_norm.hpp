// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// y = x / sqrt(mean(x^2) + eps) * weight, over the last axis (Zhang and Sennrich 2019, 1910.07467,
// eq. 4). Per-head normalisation is the same call on a [T * H, D] view. y may be x itself.
//
// With `added`, it is the sum of x and that which is normalised, and stored in `sum`: what joins
// two blocks of a decoder, in one pass.
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

struct RmsNormArgs {
  View<const float, 2> x;  // [T, N]
  const float* weight;     // [N]
  float eps;
  View<float, 2> y;              // [T, N]
  const float* added = nullptr;  // [T, N], or null
  float* sum = nullptr;          // [T, N], with `added`; may be x, not y
};

void rms_norm(Exec& exec, const RmsNormArgs& args);
/// Throws InvalidArgument for shapes that do not fit.
void check_rms_norm(const RmsNormArgs& args);

namespace cpu {
void rms_norm(Exec& exec, const RmsNormArgs& args);
}
namespace cuda {
void rms_norm(Exec& exec, const RmsNormArgs& args);
}

}  // namespace pikv::kernels
