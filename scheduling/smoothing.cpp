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
