// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// Elements below which a second thread costs more to wake than it saves.
constexpr std::int64_t kGrain = 16 * 1024;

F32x16 silu(F32x16 z) { return z / (1.0f + exp(-z)); }

float sigmoid(float z) { return 1.0f / (1.0f + std::exp(-z)); }

}  // namespace

void silu_mul(Exec& exec, const SiluMulArgs& args) {
  parallel_ranges(
      exec, args.out.size(), kGrain, [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
        std::int64_t i = begin;
        for (; i + kVecLanes <= end; i += kVecLanes) {
          store(args.out.data + i, silu(load(args.gate.data + i)) * load(args.up.data + i));
        }
        if (i < end) {
          const F32x16 gate = load_first(args.gate.data + i, end - i);
          const F32x16 up = load_first(args.up.data + i, end - i);
          store_first(args.out.data + i, silu(gate) * up, end - i);
        }
      });
}

void add(Exec& exec, const AddArgs& args) {
  parallel_ranges(exec, args.y.size(), kGrain,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) args.y.data[i] += args.x.data[i];
                  });
}

void sigmoid_gated_add(Exec& exec, const SigmoidGatedAddArgs& args) {
  const std::int64_t n = args.x.extent(1);
  parallel_ranges(exec, args.x.extent(0), 1 + kGrain / n,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      const float weight = sigmoid(args.gate.data[t]);
                      const float* x = args.x.row(t);
                      float* y = args.y.row(t);
                      for (std::int64_t i = 0; i < n; ++i) y[i] += weight * x[i];
                    }
                  });
}

void clamp(Exec& exec, const ClampArgs& args) {
  parallel_ranges(exec, args.x.size(), kGrain,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      args.x.data[i] = std::clamp(args.x.data[i], -args.limit, args.limit);
                    }
                  });
}

}  // namespace pikv::kernels::cpu
