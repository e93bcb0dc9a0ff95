// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows of heads in other coordinates: each head by a matrix of its group,
//
//   y[t, h] = (x[t, h] - before[g]) maps[g] + after[g],   g = h N / H
//
// Cost: 2 T H D^2 flops.
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

struct HeadMapsArgs {
  View<const float, 3> x;       // [T, H, D]
  View<const float, 3> maps;    // [N, D, D], row vectors times matrices; N divides H
  View<const float, 2> before;  // [N, D], or no rows: nothing is subtracted
  View<const float, 2> after;   // [N, D], or no rows: nothing is added
  View<float, 3> y;             // [T, H, D]; may be x itself
};

/// CUDA: D at most 1024.
void head_maps(Exec& exec, const HeadMapsArgs& args);

namespace cpu {
void head_maps(Exec& exec, const HeadMapsArgs& args);
}
namespace cuda {
void head_maps(Exec& exec, const HeadMapsArgs& args);
}

}  // namespace pikv::kernels
