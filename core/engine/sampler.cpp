// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/base/random.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void check_sampling_options(const SamplingOptions& options) {
  require(options.temperature >= 0.0f && std::isfinite(options.temperature), "sampling",
          "temperature = ", options.temperature, " is not a number >= 0");
  require(options.top_k >= 0, "sampling", "top-k = ", options.top_k, " is negative");
  require(options.top_p > 0.0f && options.top_p <= 1.0f, "sampling", "top-p = ", options.top_p,
          " is outside (0, 1]");
  require(options.min_p >= 0.0f && options.min_p <= 1.0f, "sampling", "min-p = ", options.min_p,
          " is outside [0, 1]");
  require(options.repetition_penalty > 0.0f && std::isfinite(options.repetition_penalty),
          "sampling", "repetition-penalty = ", options.repetition_penalty, " is not positive");
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const TokenId> history,
                        const SamplingOptions& options, std::uint64_t stream,
                        std::uint64_t counter) {
  logits_.assign(logits.begin(), logits.end());
  if (options.repetition_penalty != 1.0f) penalize(history, options.repetition_penalty);
  if (options.temperature == 0.0f) {
    return static_cast<TokenId>(std::ranges::max_element(logits_) - logits_.begin());
  }
  candidates_.clear();
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    candidates_.push_back({logits_[i] / options.temperature, static_cast<TokenId>(i)});
  }
  keep_most_probable(options);

  const double target = random_uniform(options.seed, stream, counter);
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += static_cast<double>(candidate.weight);
  double reached = 0.0;
  for (const Candidate& candidate : candidates_) {
    reached += static_cast<double>(candidate.weight);
    if (target * total < reached) return candidate.token;
  }
  return candidates_.back().token;  // rounding left the target just above the sum
}

void Sampler::penalize(std::span<const TokenId> history, float penalty) {
  // Each token once, however often it was seen.
  const std::unordered_set<TokenId> seen(history.begin(), history.end());
  for (const TokenId token : seen) {
    float& logit = logits_[static_cast<std::size_t>(token)];
    logit = logit > 0.0f ? logit / penalty : logit * penalty;
  }
}

void Sampler::keep_most_probable(const SamplingOptions& options) {
  const float largest = std::ranges::max_element(candidates_, {}, &Candidate::weight)->weight;
  for (Candidate& candidate : candidates_) {
    candidate.weight = std::exp(candidate.weight - largest);
  }
  const std::size_t num_top =
      options.top_k > 0 ? static_cast<std::size_t>(options.top_k) : candidates_.size();
  if (num_top >= candidates_.size() && options.top_p == 1.0f && options.min_p == 0.0f) return;

  std::ranges::sort(candidates_, [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  });
  candidates_.resize(std::min(num_top, candidates_.size()));
  std::size_t kept = candidates_.size();
  if (options.top_p < 1.0f) {
    double total = 0.0;
    for (const Candidate& candidate : candidates_) total += static_cast<double>(candidate.weight);
    double reached = 0.0;
    kept = 0;
    while (kept < candidates_.size() && reached < static_cast<double>(options.top_p) * total) {
      reached += static_cast<double>(candidates_[kept++].weight);
    }
  }
  // The largest weight is 1, so a share of it is a bound on the weight itself.
  while (kept > 1 && candidates_[kept - 1].weight < options.min_p) --kept;
  candidates_.resize(std::max<std::size_t>(kept, 1));
  // Drawn in an order that does not depend on the weights: two of nearly equal weight would change
  // places by a rounding, and with them what lies between.
  std::ranges::sort(candidates_, {}, &Candidate::token);
}

}  // namespace pikv
