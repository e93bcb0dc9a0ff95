// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/measure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

constexpr double kZ = 1.959964;  // 97.5 % of the normal distribution lie below

double mean(std::span<const double> scores) {
  if (scores.empty()) return 0.0;
  return std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
}

bool is_right_or_wrong(std::span<const double> scores) {
  return std::ranges::all_of(scores, [](double s) { return s == 0.0 || s == 1.0; });
}

/// Half the width of the normal interval; of at least two scores.
double normal_margin(std::span<const double> scores) {
  const auto n = static_cast<double>(scores.size());
  const double centre = mean(scores);
  double squares = 0;
  for (const double s : scores) squares += (s - centre) * (s - centre);
  return kZ * std::sqrt(squares / (n - 1) / n);
}

Estimate estimate_score(std::span<const double> scores) {
  double centre = mean(scores);
  if (!scores.empty() && is_right_or_wrong(scores)) {
    const double weight = kZ * kZ / static_cast<double>(scores.size());
    centre = (centre + weight / 2) / (1 + weight);
  }
  return {.value = mean(scores),
          .low = std::max(0.0, centre - margin(scores)),
          .high = std::min(1.0, centre + margin(scores))};
}

}  // namespace

std::string_view name(Measure measure) {
  switch (measure) {
    case Measure::kScore:
      return "score";
    case Measure::kPerplexity:
      return "perplexity";
    case Measure::kKl:
      return "kl";
    case Measure::kOutputError:
      return "output_error";
  }
  return "?";
}

bool compares_with_full_cache(Measure measure) {
  return measure == Measure::kKl || measure == Measure::kOutputError;
}

Measure parse_measure(std::string_view text) {
  for (const Measure measure :
       {Measure::kScore, Measure::kPerplexity, Measure::kKl, Measure::kOutputError}) {
    if (text == name(measure)) return measure;
  }
  throw InvalidArgument(
      fmt::format("measure: '{}' is not one of score, perplexity, kl, output_error", text));
}

Estimate estimate(Measure measure, std::span<const double> scores) {
  if (measure == Measure::kScore) return estimate_score(scores);
  const double value = mean(scores);
  const double half = scores.size() > 1 ? normal_margin(scores) : 0.0;
  if (compares_with_full_cache(measure)) {
    return {.value = value, .low = std::max(0.0, value - half), .high = value + half};
  }
  return {.value = std::exp(value), .low = std::exp(value - half), .high = std::exp(value + half)};
}

double margin(std::span<const double> scores) {
  const auto n = static_cast<double>(scores.size());
  if (scores.empty()) return 0.0;
  if (is_right_or_wrong(scores)) {
    const double p = mean(scores);
    return kZ / (1 + kZ * kZ / n) * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  }
  return scores.size() > 1 ? normal_margin(scores) : 1.0;
}

}  // namespace pikv::launch
