// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The order in which slots are kept: a total one, so that it is the same wherever they lie.
#include <algorithm>
#include <limits>
#include <numeric>

#include "scheduling/scorer.hpp"

namespace pikv::scheduling {
namespace {

/// Whether slot a is kept before slot b.
class Before {
 public:
  Before(const HeadScores& head, const Protection& protection, Position next)
      : positions_(head.positions.data()),
        scores_(head.scores.data()),
        protection_(protection),
        next_(next) {}

  bool operator()(std::int32_t a, std::int32_t b) const {
    const bool first = protection_.covers(positions_[a], next_);
    const bool second = protection_.covers(positions_[b], next_);
    if (first != second) return first;
    if (scores_[a] != scores_[b]) return scores_[a] > scores_[b];
    return positions_[a] < positions_[b];
  }

 private:
  const Position* positions_;
  const float* scores_;
  Protection protection_;
  Position next_;
};

}  // namespace

std::vector<std::int32_t> ranked(const HeadScores& head, const Protection& protection,
                                 Position next) {
  std::vector<std::int32_t> order(head.positions.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, Before(head, protection, next));
  return order;
}

std::vector<std::int32_t> worst(const HeadScores& head, const Protection& protection, Position next,
                                std::size_t count) {
  // From so many slots for each one asked for, a heap of the worst is faster than a partition.
  constexpr std::size_t kFew = 16;
  const Before before(head, protection, next);
  const std::size_t n = head.positions.size();
  count = std::min(count, n);
  std::vector<std::int32_t> result;
  if (count == 0) return result;
  if (count * kFew < n) {
    // The front of the heap is the best of the worst so far. Most slots score above it and, be they
    // protected or not, are kept before it: one comparison is all that they cost.
    const auto later = [&](std::int32_t a, std::int32_t b) { return before(b, a); };
    result.reserve(count);
    float front = std::numeric_limits<float>::infinity();
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(n); ++i) {
      if (head.scores[static_cast<std::size_t>(i)] > front) continue;
      if (result.size() == count) {
        if (!before(result.front(), i)) continue;
        std::ranges::pop_heap(result, later);
        result.pop_back();
      }
      result.push_back(i);
      std::ranges::push_heap(result, later);
      const std::int32_t best = result.front();
      const bool decides = result.size() == count &&
                           !protection.covers(head.positions[static_cast<std::size_t>(best)], next);
      front = decides ? head.scores[static_cast<std::size_t>(best)]
                      : std::numeric_limits<float>::infinity();
    }
  } else {
    result.resize(n);
    std::iota(result.begin(), result.end(), 0);
    const auto cut = result.begin() + static_cast<std::ptrdiff_t>(n - count);
    std::ranges::nth_element(result, cut, before);
    result.erase(result.begin(), cut);
  }
  std::ranges::sort(result);
  return result;
}

}  // namespace pikv::scheduling
