// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The merge of partial attention results over disjoint sets of keys, the one primitive behind
// split-context kernels, local shards and ranks:
//
//   m = max(s_a, s_b);  w = exp(s - m);  o = (w_a o_a + w_b o_b) / (w_a + w_b);  s = m + log(w_a +
//   w_b)
//
// with o a softmax-weighted mean of values and s = log sum exp of the scores, natural base
// (FlashInfer's attention state; Dao et al. 2022, 2205.14135, sec. 3.1). An empty set is
// s = -inf; its o is ignored, even if it is NaN. Two empty sets merge to o = 0, s = -inf.
// Commutative exactly; associative up to rounding: a few ulp of the largest |o|, and where |s| is
// large the rounding of s itself, ulp(s) of |o| a merge (2^-18 at |s| = 80).
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// Merges `from` into `into`, row by row.
struct MergeStatesArgs {
  View<const float, 3> from_o;    // [T, H, D]
  View<const float, 2> from_lse;  // [T, H]
  View<float, 3> into_o;          // [T, H, D]
  View<float, 2> into_lse;        // [T, H]
};

void merge_states(Exec& exec, const MergeStatesArgs& args);

namespace cpu {
void merge_states(Exec& exec, const MergeStatesArgs& args);
}
namespace cuda {
void merge_states(Exec& exec, const MergeStatesArgs& args);
}

}  // namespace pikv::kernels
