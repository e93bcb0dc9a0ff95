// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gate_topk.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {
namespace {

// The choice compares logits: their order is the order of the exact probabilities, which may round
// to equal ones.
void gate_row(const float* logits, std::int64_t num_experts, std::int64_t k, bool renormalize,
              float* left, std::int32_t* experts, float* weights) {
  const float largest = *std::max_element(logits, logits + num_experts);
  float total = 0.0f;
  for (std::int64_t e = 0; e < num_experts; ++e) total += std::exp(logits[e] - largest);
  std::copy_n(logits, num_experts, left);
  float chosen = 0.0f;
  for (std::int64_t j = 0; j < k; ++j) {
    // The first of equals has the lowest id.
    float* best = std::max_element(left, left + num_experts);
    experts[j] = static_cast<std::int32_t>(best - left);
    weights[j] = std::exp(*best - largest) / total;
    chosen += weights[j];
    *best = -std::numeric_limits<float>::infinity();
  }
  if (renormalize) {
    for (std::int64_t j = 0; j < k; ++j) weights[j] /= chosen;
  }
}

}  // namespace

void gate_topk(Exec& exec, const GateTopkArgs& args) {
  const std::int64_t num_experts = args.logits.extent(1);
  const std::int64_t k = args.experts.extent(1);
  parallel_ranges(exec, args.logits.extent(0), 64,
                  [&](std::int64_t begin, std::int64_t end, int thread_idx) {
                    float* left = exec.scratch(thread_idx, static_cast<std::size_t>(num_experts));
                    for (std::int64_t t = begin; t < end; ++t) {
                      gate_row(args.logits.row(t), num_experts, k, args.renormalize, left,
                               args.experts.row(t), args.weights.row(t));
                    }
                  });
}

}  // namespace pikv::kernels::cpu
