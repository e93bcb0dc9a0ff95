// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// y = x / sqrt(mean(x^2) + eps) * weight, over the last axis (Zhang and Sennrich 2019, 1910.07467,
// eq. 4). Per-head normalisation is the same call on a [T * H, D] view. y may be x itself.
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

struct RmsNormArgs {
  View<const float, 2> x;  // [T, N]
  const float* weight;     // [N]
  float eps;
  View<float, 2> y;  // [T, N]
};

void rms_norm(Exec& exec, const RmsNormArgs& args);

namespace cpu {
void rms_norm(Exec& exec, const RmsNormArgs& args);
}
namespace cuda {
void rms_norm(Exec& exec, const RmsNormArgs& args);
}

}  // namespace pikv::kernels
