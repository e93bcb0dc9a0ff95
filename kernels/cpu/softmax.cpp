// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax.hpp"

#include <algorithm>

#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

void softmax_row(float* x, std::int64_t n, std::int64_t size) {
  std::fill(x + n, x + size, 0.0f);
  if (n == 0) return;
  const std::int64_t whole = n / kVecLanes * kVecLanes;
  F32x16 largest = broadcast(-std::numeric_limits<float>::infinity());
  for (std::int64_t i = 0; i < whole; i += kVecLanes) largest = max(largest, load(x + i));
  const float shift =
      std::max(max(largest), whole < n ? *std::max_element(x + whole, x + n) : x[0]);
  F32x16 totals{};
  for (std::int64_t i = 0; i < whole; i += kVecLanes) {
    const F32x16 weight = exp(load(x + i) - shift);
    store(x + i, weight);
    totals += weight;
  }
  float total = sum(totals);
  if (whole < n) {
    const F32x16 weight = exp(load_first(x + whole, n - whole) - shift);
    store_first(x + whole, weight, n - whole);
    for (std::int64_t i = whole; i < n; ++i) total += x[i];
  }
  const float scale = 1.0f / total;
  for (std::int64_t i = 0; i < n; ++i) x[i] *= scale;
}

}  // namespace

void softmax(Exec& exec, const SoftmaxArgs& args) {
  const std::int64_t size = args.x.extent(1);
  parallel_ranges(exec, args.x.extent(0), 1 + 4096 / size,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t row = begin; row < end; ++row) {
                      softmax_row(args.x.row(row), args.lengths.data[row], size);
                    }
                  });
}

}  // namespace pikv::kernels::cpu
