// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.hpp"

#include <cmath>

#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {

void rope_table(Exec& exec, const RopeTableArgs& args) {
  const std::int64_t half = args.inverse_frequencies.extent(0);
  parallel_ranges(exec, args.positions.extent(0), 64,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      const auto position = static_cast<float>(args.positions.data[t]);
                      for (std::int64_t i = 0; i < half; ++i) {
                        const float angle = position * args.inverse_frequencies.data[i];
                        args.cos.row(t)[i] = std::cos(angle);
                        args.sin.row(t)[i] = std::sin(angle);
                      }
                    }
                  });
}

void rope(Exec& exec, const RopeArgs& args) {
  const std::int64_t num_heads = args.x.extent(1);
  const std::int64_t half = args.x.extent(2) / 2;
  parallel_ranges(exec, args.x.extent(0), 1 + 4 * 1024 / args.x.row_size(),
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      const float* __restrict__ cos = args.cos.row(t);
                      const float* __restrict__ sin = args.sin.row(t);
                      for (std::int64_t h = 0; h < num_heads; ++h) {
                        float* __restrict__ low = args.x.row(t) + 2 * h * half;
                        float* __restrict__ high = low + half;
                        for (std::int64_t i = 0; i < half; ++i) {
                          const float a = low[i];
                          const float b = high[i];
                          low[i] = a * cos[i] - b * sin[i];
                          high[i] = b * cos[i] + a * sin[i];
                        }
                      }
                    }
                  });
}

}  // namespace pikv::kernels::cpu
