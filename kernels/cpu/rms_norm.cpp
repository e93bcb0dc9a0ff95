// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm.hpp"

#include <cmath>

#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

void normalize_row(const float* x, const float* weight, float eps, std::int64_t n, float* y) {
  const std::int64_t whole = n / kVecLanes * kVecLanes;
  F32x16 squares{};
  for (std::int64_t i = 0; i < whole; i += kVecLanes) squares += load(x + i) * load(x + i);
  float total = sum(squares);
  for (std::int64_t i = whole; i < n; ++i) total += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(total / static_cast<float>(n) + eps);
  for (std::int64_t i = 0; i < whole; i += kVecLanes) {
    store(y + i, load(weight + i) * (load(x + i) * scale));
  }
  for (std::int64_t i = whole; i < n; ++i) y[i] = weight[i] * (x[i] * scale);
}

}  // namespace

void rms_norm(Exec& exec, const RmsNormArgs& args) {
  const std::int64_t n = args.x.extent(1);
  parallel_ranges(exec, args.x.extent(0), 1 + 16 * 1024 / n,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      const float* x = args.x.row(t);
                      if (args.added != nullptr) {
                        float* sum = args.sum + t * n;
                        for (std::int64_t i = 0; i < n; ++i) sum[i] = x[i] + args.added[t * n + i];
                        x = sum;
                      }
                      normalize_row(x, args.weight, args.eps, n, args.y.row(t));
                    }
                  });
}

}  // namespace pikv::kernels::cpu
