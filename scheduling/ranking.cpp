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
    const auto consider = [&](std::int32_t i) {
      if (head.scores[static_cast<std::size_t>(i)] > front) return;
      if (result.size() == count) {
        if (!before(result.front(), i)) return;
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
    };
    // Once the best of the worst is a slot without protection, no protected one is kept after it.
    // Counted without a branch: most runs of slots then have no candidate.
    constexpr std::size_t kAtOnce = 64;
    const auto oldest = static_cast<Position>(std::min<std::int64_t>(protection.sinks, next));
    const auto newest = static_cast<Position>(std::max<std::int64_t>(next - protection.recents, 0));
    for (std::size_t begin = 0; begin < n; begin += kAtOnce) {
      const std::size_t end = std::min(begin + kAtOnce, n);
      std::int32_t num_candidates = 0;
      for (std::size_t i = begin; i < end; ++i) {
        const Position p = head.positions[i];
        num_candidates += static_cast<std::int32_t>(p >= oldest) &
                          static_cast<std::int32_t>(p < newest) &
                          static_cast<std::int32_t>(head.scores[i] <= front);
      }
      if (num_candidates == 0 && front != std::numeric_limits<float>::infinity()) continue;
      for (std::size_t i = begin; i < end; ++i) consider(static_cast<std::int32_t>(i));
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
