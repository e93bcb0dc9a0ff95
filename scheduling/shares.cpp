// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/shares.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/error.hpp"

namespace pikv::scheduling {
namespace {

double sum_of(std::span<const double> values, const std::vector<std::size_t>& which) {
  double sum = 0;
  for (const std::size_t i : which) sum += values[i];
  return sum;
}

}  // namespace

std::vector<std::int64_t> share_out(std::int64_t total, std::span<const double> weights,
                                    std::span<const std::int64_t> least,
                                    std::span<const std::int64_t> most) {
  std::vector<std::int64_t> counts(least.begin(), least.end());
  std::int64_t left = total - std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  ensure(left >= 0, "share_out: the least counts are within the total");
  while (left > 0) {
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] < most[i] && weights[i] > 0) open.push_back(i);
    }
    const bool weighed = !open.empty();
    for (std::size_t i = 0; i < counts.size() && !weighed; ++i) {
      if (counts[i] < most[i]) open.push_back(i);
    }
    ensure(!open.empty(), "share_out: the total is within the largest counts");
    const double sum = weighed ? sum_of(weights, open) : static_cast<double>(open.size());
    const auto part = [&](std::size_t i) {
      return static_cast<double>(left) * (weighed ? weights[i] : 1.0) / sum;
    };
    // Heads that cannot take their part are filled first; the rest then share anew.
    std::int64_t filled = 0;
    for (const std::size_t i : open) {
      const std::int64_t room = most[i] - counts[i];
      if (part(i) < static_cast<double>(room)) continue;
      filled += room;
      counts[i] = most[i];
    }
    if (filled > 0) {
      left -= filled;
      continue;
    }
    std::vector<std::pair<double, std::size_t>> remainders;
    std::int64_t given = 0;
    for (const std::size_t i : open) {
      const double whole = std::floor(part(i));
      remainders.emplace_back(part(i) - whole, i);
      counts[i] += static_cast<std::int64_t>(whole);
      given += static_cast<std::int64_t>(whole);
    }
    left -= given;
    std::ranges::stable_sort(remainders,
                             [](const auto& a, const auto& b) { return a.first > b.first; });
    // Each open head has room for one more, since its part is below its room.
    for (const auto& [remainder, i] : remainders) {
      if (left <= 0) break;
      ++counts[i];
      --left;
    }
  }
  return counts;
}

}  // namespace pikv::scheduling
