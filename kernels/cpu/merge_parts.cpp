// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_parts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kGrain = 16 * 1024;

bool counts(std::uint64_t mask, std::int64_t part) { return (mask >> part & 1) != 0; }

void merge_state(const MergePartsArgs& args, std::int64_t i) {
  const std::int64_t num_parts = args.from_o.extent(0);
  const std::int64_t num_states = args.lse.size();
  const std::int64_t dim = args.o.extent(2);
  const auto lse_of = [&](std::int64_t part) {
    return counts(args.mask, part) ? args.from_lse.data[part * num_states + i] : kEmpty;
  };
  float largest = kEmpty;
  for (std::int64_t p = 0; p < num_parts; ++p) largest = std::max(largest, lse_of(p));
  float* o = args.o.data + i * dim;
  std::fill_n(o, dim, 0.0f);
  float total = 0.0f;
  for (std::int64_t p = 0; p < num_parts; ++p) {
    if (lse_of(p) == kEmpty) continue;
    const float weight = std::exp(lse_of(p) - largest);
    const float* from = args.from_o.data + (p * num_states + i) * dim;
    total += weight;
    for (std::int64_t d = 0; d < dim; ++d) o[d] += weight * from[d];
  }
  args.lse.data[i] = total == 0.0f ? kEmpty : largest + std::log(total);
  if (total == 0.0f) return;
  for (std::int64_t d = 0; d < dim; ++d) o[d] /= total;
}

}  // namespace

void merge_parts(Exec& exec, const MergePartsArgs& args) {
  parallel_ranges(exec, args.lse.size(), 1 + kGrain / (1 + args.o.extent(2)),
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) merge_state(args, i);
                  });
}

void sum_parts(Exec& exec, const SumPartsArgs& args) {
  const std::int64_t size = args.y.size();
  parallel_ranges(exec, size, kGrain,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    std::fill(args.y.data + begin, args.y.data + end, 0.0f);
                    for (std::int64_t p = 0; p < args.from.extent(0); ++p) {
                      if (!counts(args.mask, p)) continue;
                      const float* from = args.from.data + p * size;
                      for (std::int64_t i = begin; i < end; ++i) args.y.data[i] += from[i];
                    }
                  });
}

}  // namespace pikv::kernels::cpu
