// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/linear_bf16.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// A pair of neighbours in K is the unit of the instruction. The weight is packed by panels of 32
// outputs, [panels, K / 2, 32] pairs, so that a step of K reads two registers of it; x stays in
// rows of pairs, each broadcast.
constexpr std::int64_t kPanel = 32;
// Rows that share a pass over a panel: 2 x 12 running sums in 32 registers.
constexpr int kRows = 12;

using Pair = std::uint32_t;

std::int64_t num_pairs(std::int64_t k) { return (k + 1) / 2; }

std::int64_t num_panels(std::int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }

void round_rows(const float* x, std::int64_t num_rows, std::int64_t k, Pair* to) {
  for (std::int64_t t = 0; t < num_rows; ++t) {
    auto* row = reinterpret_cast<BFloat16*>(to + t * num_pairs(k));
    for (std::int64_t i = 0; i < k; ++i) row[i] = from_float<BFloat16>(x[t * k + i]);
    if (k % 2 == 1) row[k] = BFloat16{};
  }
}

void pack_panels(const BFloat16* weight, std::int64_t outputs, std::int64_t k, Pair* to) {
  const std::int64_t pairs = num_pairs(k);
  for (std::int64_t n = 0; n < num_panels(outputs) * kPanel; ++n) {
    Pair* panel = to + n / kPanel * pairs * kPanel + n % kPanel;
    if (n >= outputs) {
      for (std::int64_t i = 0; i < pairs; ++i) panel[i * kPanel] = 0;
      continue;
    }
    const BFloat16* row = weight + n * k;
    for (std::int64_t i = 0; i < k / 2; ++i) std::memcpy(panel + i * kPanel, row + 2 * i, 4);
    if (k % 2 == 1) {
      const BFloat16 last[2] = {row[k - 1], BFloat16{}};
      std::memcpy(panel + k / 2 * kPanel, last, 4);
    }
  }
}

template <int kCount>
void multiply_rows(const Pair* x, const Pair* panel, std::int64_t pairs, float* sums) {
  F32x16 acc[std::size_t{kCount}][2] = {};
  for (std::int64_t i = 0; i < pairs; ++i) {
    const auto w0 = load_as<U32x16>(panel + i * kPanel);
    const auto w1 = load_as<U32x16>(panel + i * kPanel + kVecLanes);
    for (int t = 0; t < kCount; ++t) {
      const U32x16 xv = U32x16{} + x[t * pairs + i];
      acc[t][0] = dot_pairs(acc[t][0], w0, xv);
      acc[t][1] = dot_pairs(acc[t][1], w1, xv);
    }
  }
  for (int t = 0; t < kCount; ++t) {
    store(sums + t * kPanel, acc[t][0]);
    store(sums + t * kPanel + kVecLanes, acc[t][1]);
  }
}

}  // namespace

std::size_t bf16_scratch_bytes(std::int64_t num_rows, std::int64_t k, std::int64_t outputs) {
  return static_cast<std::size_t>((num_rows + num_panels(outputs) * kPanel) * num_pairs(k)) *
         sizeof(Pair);
}

void multiply_bf16(const float* x, std::int64_t num_rows, const BFloat16* weight,
                   std::int64_t outputs, std::int64_t k, const float* bias, float* y,
                   std::int64_t y_stride, std::byte* scratch) {
  const std::int64_t pairs = num_pairs(k);
  auto* panels = reinterpret_cast<Pair*>(scratch);
  Pair* rows = panels + num_panels(outputs) * kPanel * pairs;
  pack_panels(weight, outputs, k, panels);
  round_rows(x, num_rows, k, rows);
  float sums[kRows * kPanel];
  for (std::int64_t n = 0; n < outputs; n += kPanel) {
    const Pair* panel = panels + n * pairs;
    const std::int64_t width = std::min(kPanel, outputs - n);
    std::int64_t t = 0;
    const auto pass = [&]<int kCount>() {
      multiply_rows<kCount>(rows + t * pairs, panel, pairs, sums);
      for (int r = 0; r < kCount; ++r) {
        float* to = y + (t + r) * y_stride + n;
        for (std::int64_t j = 0; j < width; ++j) {
          to[j] = sums[r * kPanel + j] + (bias != nullptr ? bias[n + j] : 0.0f);
        }
      }
      t += kCount;
    };
    while (t + kRows <= num_rows) pass.template operator()<kRows>();
    while (t + 4 <= num_rows) pass.template operator()<4>();
    while (t < num_rows) pass.template operator()<1>();
  }
}

}  // namespace pikv::kernels::cpu
