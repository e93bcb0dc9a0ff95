// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Online softmax (Milakov and Gimelshein 2018, 1805.02867) of two lines a thread, in the order of
// products of warpgroups (wgmma.cuh), to base 2. Weights are relative to a line's largest score
// when its warp last changed to it: later ones may weigh up to 2^kGrowth, as exact in any type of
// pages, before sums so far are scaled again. Sums of a line are of one thread's slots.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

struct SoftmaxLines {
  static constexpr float kGrowth = 8.0f;

  float base[2] = {-3e38f, -3e38f};  // that score, scaled; less than all before the first
  float total[2] = {};               // of weights

  /// Scores, which are to be multiplied by `scale`, become weights. Whether sums so far are to be
  /// multiplied by `shrink`: the same for the warp.
  template <int kScores>
  __device__ __forceinline__ bool weigh(float (&scores)[kScores], float scale, float (&shrink)[2]) {
    float tops[2][2] = {{scores[0], scores[1]}, {scores[2], scores[3]}};
#pragma unroll
    for (int j = 4; j < kScores; ++j) {
      float& top = tops[j / 2 % 2][j % 2];
      top = fmaxf(top, scores[j]);
    }
    float top[2] = {fmaxf(tops[0][0], tops[0][1]), fmaxf(tops[1][0], tops[1][1])};
#pragma unroll
    for (int distance = 1; distance <= 2; ++distance) {
#pragma unroll
      for (float& x : top) x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, distance));
    }
    const bool grows =
        fmaf(top[0], scale, -base[0]) > kGrowth || fmaf(top[1], scale, -base[1]) > kGrowth;
    const bool shrinks = __any_sync(kWholeWarp, grows) != 0;
    if (shrinks) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float new_base = fmaxf(base[i], top[i] * scale);
        shrink[i] = power_of_two(base[i] - new_base);
        base[i] = new_base;
        total[i] *= shrink[i];
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sums[2] = {};
#pragma unroll
      for (int j = 0; j < kScores / 2; ++j) {
        float& x = scores[4 * (j / 2) + 2 * i + j % 2];
        x = power_of_two(fmaf(x, scale, -base[i]));
        sums[j % 2] += x;
      }
      total[i] += sums[0] + sums[1];
    }
    return shrinks;
  }

  /// Zero, which the compiler cannot tell before all weights are there: sums are not negative.
  [[nodiscard]] __device__ __forceinline__ std::uint32_t zero() const {
    return (__float_as_uint(total[0]) & __float_as_uint(total[1])) >> 31;
  }
};

}  // namespace pikv::kernels::cuda
