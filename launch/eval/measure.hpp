// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the scores of a task measure, and what they say together.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace pikv::launch {

enum class Measure : std::uint8_t {
  kScore,        // of answers, in [0, 1]: higher is better
  kPerplexity,   // scores are mean negative log likelihoods, in nats a token; lower is better
  kKl,           // KL(full || compressed) of next-token distributions, in nats; lower is better
  kOutputError,  // ||y - y_full|| / ||y_full|| of the logits y of a token; lower is better
};

[[nodiscard]] std::string_view name(Measure measure);
/// Whether its scores compare a run with one of the full cache.
[[nodiscard]] bool compares_with_full_cache(Measure measure);
/// Throws InvalidArgument listing the known names.
[[nodiscard]] Measure parse_measure(std::string_view name);

/// A value and its 95 % confidence interval.
struct Estimate {
  double value;
  double low;
  double high;
};

/// The mean of the scores; of kPerplexity the exponential of it. Each score counts as one
/// observation. The interval is Wilson's for answers that are right or wrong, which does not have
/// the mean in its middle, and the normal one for others, within what is possible. One score that
/// is neither 0 nor 1 has no interval: the whole of [0, 1] for kScore, the value itself for others.
[[nodiscard]] Estimate estimate(Measure measure, std::span<const double> scores);

/// Half the width of the interval of a kScore.
[[nodiscard]] double margin(std::span<const double> scores);

}  // namespace pikv::launch
