// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/smoothing.hpp"

#include <algorithm>
#include <vector>

namespace pikv::scheduling {

void smooth(std::span<float> scores, std::int64_t width) {
  if (width <= 1) return;
  const auto n = static_cast<std::int64_t>(scores.size());
  std::vector<double> sums(scores.size() + 1);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    sums[i + 1] = sums[i] + static_cast<double>(scores[i]);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t begin = std::max<std::int64_t>(i - width / 2, 0);
    const std::int64_t end = std::min(i + width / 2 + 1, n);
    scores[static_cast<std::size_t>(i)] = static_cast<float>(
        (sums[static_cast<std::size_t>(end)] - sums[static_cast<std::size_t>(begin)]) /
        static_cast<double>(width));
  }
}

void smooth_in_text(std::span<float> scores, std::span<const Position> positions,
                    std::int64_t width) {
  const std::vector<float> own(scores.begin(), scores.end());
  const auto reach = static_cast<Position>(width / 2);
  std::size_t begin = 0;
  std::size_t end = 0;
  for (std::size_t i = 0; i < own.size(); ++i) {
    while (positions[begin] < positions[i] - reach) ++begin;
    while (end < own.size() && positions[end] <= positions[i] + reach) ++end;
    double sum = 0;
    for (std::size_t j = begin; j < end; ++j) sum += static_cast<double>(own[j]);
    scores[i] = static_cast<float>(sum / static_cast<double>(end - begin));
  }
}

void widen(std::span<float> scores, std::int64_t width) {
  if (width <= 1) return;
  const std::vector<float> before(scores.begin(), scores.end());
  const auto n = static_cast<std::int64_t>(scores.size());
  for (std::int64_t i = 0; i < n; ++i) {
    const auto first = before.begin() + std::max<std::int64_t>(i - width / 2, 0);
    const auto last = before.begin() + std::min(i + width / 2 + 1, n);
    scores[static_cast<std::size_t>(i)] = *std::max_element(first, last);
  }
}

}  // namespace pikv::scheduling
