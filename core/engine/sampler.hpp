// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// From logits to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

struct SamplingOptions {
  float temperature = 0.0f;  // 0: the most probable token, the lowest id among equals
  std::int64_t top_k = 0;    // keep the k most probable; 0: all
  float top_p = 1.0f;        // keep the fewest tokens whose probabilities reach p
  float min_p = 0.0f;        // drop tokens below this share of the largest probability
  float repetition_penalty =
      1.0f;  // > 1 disfavours tokens seen before (Keskar et al. 2019, 1909.05858)
  std::uint64_t seed = 0;
};

/// Throws InvalidArgument naming the option that is out of range.
void check_sampling_options(const SamplingOptions& options);

/// Applies, in the order of the hub implementation: repetition penalty, temperature, top-k, top-p,
/// min-p; then draws. The draw is a function of (seed, stream, counter), so a text does not depend
/// on the number of ranks or on what else is in the batch. Keeps only scratch memory.
class Sampler {
 public:
  /// logits [V]; history: prompt and text so far. stream and counter name the draw.
  [[nodiscard]] TokenId sample(std::span<const float> logits, std::span<const TokenId> history,
                               const SamplingOptions& options, std::uint64_t stream,
                               std::uint64_t counter);

 private:
  void penalize(std::span<const TokenId> history, float penalty);
  void keep_most_probable(const SamplingOptions& options);

  struct Candidate {
    float weight;  // logit, then probability
    TokenId token;
  };
  std::vector<float> logits_;
  std::vector<Candidate> candidates_;
};

}  // namespace pikv
