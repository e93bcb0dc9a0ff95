// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The online softmax of a warp over pages (decode_page.cuh), to base 2. Weights are relative to a
// reference, which follows the largest score only when a weight would leave float16 otherwise.
//
// Weights are finite whatever the scores. Of integers, those of scores, or of their parts by codes
// or by lows, beyond 2^27 may all round to 0: float32 knows such numbers to 16 only.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_page.cuh"
#include "kernels/cuda/decode_softmax.cuh"

namespace pikv::kernels::cuda {

template <class Form>
struct PageSoftmax {
  /// Below every score, and finite: a difference of it and -inf is one.
  static constexpr float kLowest = -0x1p126f;
  /// A score that becomes the reference has this weight, to base 2; others twice that at most.
  static constexpr float kTop = Form::kLiftLog2;
  float reference[2];  // of columns 2t and 2t + 1, the same on all lanes

  /// Goes on from the softmax of open pages.
  template <class Sums>
  __device__ PageSoftmax(Softmax& softmax, Sums& sums) {
    constexpr float kLift = Form::kLift;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      reference[i] = softmax.largest[i] == -INFINITY ? kLowest : softmax.largest[i] - kTop;
      softmax.total[i] *= kLift;
    }
    sums.rescale(kLift, kLift);
  }

  /// Turns masked scores, as PageKeys gives them, into weights. `unit`: what undoes the power of
  /// the queries of columns 2t and 2t + 1.
  template <class Sums>
  __device__ void weigh(const float (&unit)[2], const float (&low)[2],
                        float (&scores)[kRowTiles][4], Sums& sums) {
    const float factor[2] = {unit[0] * Form::unit(), unit[1] * Form::unit()};
    float offset[2];
    float largest[2];
    bool grows = false;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      offset[i] = fmaf(low[i], unit[i], -reference[i]);
      largest[i] = fmaxf(scores[0][i], scores[0][2 + i]);
#pragma unroll
      for (int r = 1; r < kRowTiles; ++r) {
        largest[i] = fmaxf(largest[i], fmaxf(scores[r][i], scores[r][2 + i]));
      }
      grows = grows || fmaf(largest[i], factor[i], offset[i]) > kTop + 1.0f;
    }
    if (__any_sync(kWholeWarp, grows)) {
      float shrink[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        for (int step = 4; step < kWarpThreads; step *= 2) {
          largest[i] = fmaxf(largest[i], __shfl_xor_sync(kWholeWarp, largest[i], step));
        }
        const float score = fmaf(largest[i], factor[i], low[i] * unit[i]);
        float next = fmaxf(reference[i], score - kTop);
        offset[i] = fmaf(low[i], unit[i], -next);
        // Of scores above a million, the sum rounds to other numbers: weights shall be float16.
        while (fmaf(largest[i], factor[i], offset[i]) > kTop + 1.0f) {
          next = __fadd_ru(next, fmaf(largest[i], factor[i], offset[i]) - kTop);
          offset[i] = fmaf(low[i], unit[i], -next);
        }
        shrink[i] = power_of_two(reference[i] - next);
        reference[i] = next;
      }
      sums.rescale(shrink[0], shrink[1]);
    }
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[r][i] = power_of_two(fmaf(scores[r][i], factor[i % 2], offset[i % 2]));
      }
    }
  }

  /// Gives the weights back. The largest score is then but what they are relative to.
  template <class Sums>
  __device__ void leave(const Place& lane, const Sums& sums, Softmax& softmax) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (softmax.largest[i] != -INFINITY) {  // of open pages, lifted
        softmax.total[i] *= power_of_two(softmax.largest[i] - kTop - reference[i]);
      }
      softmax.largest[i] = reference[i] == kLowest ? -INFINITY : reference[i];
      softmax.total[i] += sums.total(lane, i);
    }
  }
};

}  // namespace pikv::kernels::cuda
