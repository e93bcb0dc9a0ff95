// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Softmax of rows of logits, in place, each over its first elements: the weights that attention
// would give, for those who want to look at them. Attention itself never stores them.
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// x[t, :n] = exp(x[t, :n]) / sum exp(x[t, :n]) with n = lengths[t], the rest of the row 0.
struct SoftmaxArgs {
  View<float, 2> x;                     // [T, N]
  View<const std::int32_t, 1> lengths;  // [T], in [0, N]
};
void softmax(Exec& exec, const SoftmaxArgs& args);

namespace cpu {
void softmax(Exec& exec, const SoftmaxArgs& args);
}
namespace cuda {
void softmax(Exec& exec, const SoftmaxArgs& args);
}

}  // namespace pikv::kernels
