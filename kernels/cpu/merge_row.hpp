// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// merge_states for one row and head; see kernels/merge_states.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace pikv::kernels::cpu {

inline constexpr float kEmptyLse = -std::numeric_limits<float>::infinity();

inline void merge_row(const float* from_o, float from_lse, std::int64_t d, float* into_o,
                      float& into_lse) {
  if (from_lse == kEmptyLse) {
    if (into_lse == kEmptyLse) std::fill_n(into_o, d, 0.0f);
    return;
  }
  if (into_lse == kEmptyLse) {
    std::copy_n(from_o, d, into_o);
    into_lse = from_lse;
    return;
  }
  const float largest = std::max(from_lse, into_lse);
  const float from_weight = std::exp(from_lse - largest);
  const float into_weight = std::exp(into_lse - largest);
  const float total = from_weight + into_weight;
  for (std::int64_t i = 0; i < d; ++i) {
    into_o[i] = (into_weight * into_o[i] + from_weight * from_o[i]) / total;
  }
  into_lse = largest + std::log(total);
}

}  // namespace pikv::kernels::cpu
