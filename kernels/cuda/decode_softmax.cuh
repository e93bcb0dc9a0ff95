// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The online softmax of a warp over tiles, to base 2.
#pragma once

#include <cmath>

#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

/// The largest score and the sum of weights of columns 2t and 2t + 1.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};  // the same on all lanes of a column
  float total[2] = {};                        // of this lane's rows

  /// Turns masked scores into weights.
  template <class Sums>
  __device__ void weigh(float (&scores)[kRowTiles][4], Sums& sums) {
    float now[2] = {largest[0], largest[1]};
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      now[0] = fmaxf(now[0], fmaxf(scores[r][0], scores[r][2]));
      now[1] = fmaxf(now[1], fmaxf(scores[r][1], scores[r][3]));
    }
#pragma unroll
    for (int step = 4; step < kWarpThreads; step *= 2) {
      now[0] = fmaxf(now[0], __shfl_xor_sync(kWholeWarp, now[0], step));
      now[1] = fmaxf(now[1], __shfl_xor_sync(kWholeWarp, now[1], step));
    }
    if (__any_sync(kWholeWarp, now[0] > largest[0] || now[1] > largest[1])) {
      float shrink[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        shrink[i] = now[i] > largest[i] ? exp2f(largest[i] - now[i]) : 1.0f;
        largest[i] = now[i];
        total[i] *= shrink[i];
      }
      sums.rescale(shrink[0], shrink[1]);
    }
    const float base[2] = {now[0] == -INFINITY ? 0.0f : now[0],
                           now[1] == -INFINITY ? 0.0f : now[1]};
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[r][i] = power_of_two(scores[r][i] - base[i % 2]);
        total[i % 2] += scores[r][i];
      }
    }
  }
};

}  // namespace pikv::kernels::cuda
