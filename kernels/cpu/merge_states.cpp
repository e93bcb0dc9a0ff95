// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_states.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

void merge_row(const float* from_o, float from_lse, std::int64_t d, float* into_o,
               float& into_lse) {
  if (from_lse == kEmpty) {
    if (into_lse == kEmpty) std::fill_n(into_o, d, 0.0f);
    return;
  }
  if (into_lse == kEmpty) {
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

}  // namespace

void merge_states(Exec& exec, const MergeStatesArgs& args) {
  const std::int64_t d = args.from_o.extent(2);
  parallel_ranges(exec, args.from_lse.size(), 1 + 16 * 1024 / d,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      merge_row(args.from_o.data + i * d, args.from_lse.data[i], d,
                                args.into_o.data + i * d, args.into_lse.data[i]);
                    }
                  });
}

}  // namespace pikv::kernels::cpu
