// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gate_topk.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {
namespace {

void gate_row(const float* logits, std::int64_t num_experts, std::int64_t k, bool renormalize,
              float* probabilities, std::int32_t* experts, float* weights) {
  const float largest = *std::max_element(logits, logits + num_experts);
  float total = 0.0f;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    probabilities[e] = std::exp(logits[e] - largest);
    total += probabilities[e];
  }
  for (std::int64_t e = 0; e < num_experts; ++e) probabilities[e] /= total;

  float chosen = 0.0f;
  for (std::int64_t j = 0; j < k; ++j) {
    // Strict comparison keeps the lower id on equal probabilities.
    std::int64_t best = 0;
    for (std::int64_t e = 1; e < num_experts; ++e) {
      if (probabilities[e] > probabilities[best]) best = e;
    }
    experts[j] = static_cast<std::int32_t>(best);
    weights[j] = probabilities[best];
    chosen += probabilities[best];
    probabilities[best] = -1.0f;
  }
  if (renormalize) {
    for (std::int64_t j = 0; j < k; ++j) weights[j] /= chosen;
  }
}

}  // namespace

void gate_topk(Exec& exec, const GateTopkArgs& args) {
  const std::int64_t num_experts = args.logits.extent(1);
  const std::int64_t k = args.experts.extent(1);
  parallel_ranges(
      exec, args.logits.extent(0), 64, [&](std::int64_t begin, std::int64_t end, int thread_idx) {
        float* probabilities = exec.scratch(thread_idx, static_cast<std::size_t>(num_experts));
        for (std::int64_t t = begin; t < end; ++t) {
          gate_row(args.logits.row(t), num_experts, k, args.renormalize, probabilities,
                   args.experts.row(t), args.weights.row(t));
        }
      });
}

}  // namespace pikv::kernels::cpu
