// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <functional>

#include "scheduling/allocators/makers.hpp"

namespace pikv::scheduling {
namespace {

/// A slot of some head of a layer.
struct Candidate {
  double score;
  Position position;
  std::size_t head;
};

/// Adds to the count of each head how many of the best `num_winners` candidates are its own.
void add_winners(std::vector<Candidate>& candidates, std::int64_t num_winners,
                 std::span<std::int64_t> counts) {
  std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    if (a.position != b.position) return a.position < b.position;
    return a.head < b.head;
  });
  for (std::size_t i = 0; i < candidates.size() && static_cast<std::int64_t>(i) < num_winners;
       ++i) {
    ++counts[candidates[i].head];
  }
}

class Ada final : public Allocator {
 public:
  explicit Ada(double floor) : floor_(floor) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection& protection,
                std::span<std::int64_t> counts) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    for (std::size_t first = 0; first < counts.size(); first += num_heads) {
      allocate_layer({scores.heads.data() + first, num_heads}, scores.next_position, budget,
                     protection, counts.subspan(first, num_heads));
    }
  }

 private:
  void allocate_layer(std::span<const HeadScores> heads, Position next, const KvBudget& budget,
                      const Protection& protection, std::span<std::int64_t> counts) const {
    std::vector<Candidate> candidates;
    // Of the layer, so that what a head gave up once others may still use later.
    const std::int64_t whole_share = budget.of(next, next);
    std::int64_t left = static_cast<std::int64_t>(heads.size()) * whole_share;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      const std::int64_t share =
          std::min(whole_share, static_cast<std::int64_t>(heads[h].positions.size()));
      // Protected slots come first in the order, and count as part of the floor.
      const std::vector<std::int32_t> order = ranked(heads[h], protection, next);
      const auto num_protected = std::ranges::count_if(
          heads[h].positions, [&](Position p) { return protection.covers(p, next); });
      const std::int64_t floor = std::min<std::int64_t>(
          share, std::max<std::int64_t>(num_protected, static_cast<std::int64_t>(
                                                           floor_ * static_cast<double>(share))));
      counts[h] = floor;
      left -= floor;
      for (std::size_t i = static_cast<std::size_t>(floor); i < order.size(); ++i) {
        const auto slot = static_cast<std::size_t>(order[i]);
        candidates.push_back(
            {static_cast<double>(heads[h].scores[slot]), heads[h].positions[slot], h});
      }
    }
    add_winners(candidates, left, counts);
  }

  double floor_;
};

/// What a head would win is blended with an even share, slots rounded head by head.
class FactoryAda final : public Allocator {
 public:
  FactoryAda(double floor, bool normalizes) : floor_(floor), normalizes_(normalizes) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection& protection,
                std::span<std::int64_t> counts) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    const std::int64_t share = budget.of(scores.next_position, scores.next_position);
    for (std::size_t first = 0; first < counts.size(); first += num_heads) {
      allocate_layer({scores.heads.data() + first, num_heads}, scores.next_position, share,
                     protection, counts.subspan(first, num_heads));
    }
  }

 private:
  void allocate_layer(std::span<const HeadScores> heads, Position next, std::int64_t share,
                      const Protection& protection, std::span<std::int64_t> counts) const {
    std::vector<Candidate> candidates;
    std::vector<std::int64_t> num_protected;
    std::vector<std::int64_t> even;  // shares beside what is protected
    std::int64_t left = 0;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      num_protected.push_back(std::ranges::count_if(
          heads[h].positions, [&](Position p) { return protection.covers(p, next); }));
      even.push_back(std::max<std::int64_t>(share - num_protected[h], 0));
      left += even[h];
      add_candidates(heads[h], h, protection, next, even[h], candidates);
    }
    std::vector<std::int64_t> num_won(heads.size());
    add_winners(candidates, left, num_won);
    for (std::size_t h = 0; h < heads.size(); ++h) {
      const auto n = static_cast<std::int64_t>(heads[h].positions.size());
      const double blend = (1 - floor_) * static_cast<double>(num_won[h]) +
                           std::floor(floor_ * static_cast<double>(even[h]));
      const std::int64_t wanted = n <= share ? n
                                             : std::min(num_protected[h], share) +
                                                   static_cast<std::int64_t>(std::nearbyint(blend));
      counts[h] = std::clamp<std::int64_t>(wanted, std::min<std::int64_t>(n, 1), n);
    }
  }

  void add_candidates(const HeadScores& head, std::size_t h, const Protection& protection,
                      Position next, std::int64_t even, std::vector<Candidate>& candidates) const {
    const std::size_t first = candidates.size();
    for (std::size_t i = 0; i < head.positions.size(); ++i) {
      if (protection.covers(head.positions[i], next)) continue;
      candidates.push_back({static_cast<double>(head.scores[i]), head.positions[i], h});
    }
    if (!normalizes_) return;
    const auto own = std::span(candidates).subspan(first);
    std::ranges::sort(own, std::greater<>{}, &Candidate::score);
    double best = 0;
    double all = 0;
    for (std::size_t i = 0; i < own.size(); ++i) {
      if (static_cast<std::int64_t>(i) < even) best += own[i].score;
      all += own[i].score;
    }
    if (all == 0) return;
    for (Candidate& candidate : own) candidate.score *= best / all;
  }

  double floor_;
  bool normalizes_;
};

}  // namespace

std::unique_ptr<const Allocator> make_factory_ada_allocator(double floor, bool normalizes) {
  return std::make_unique<FactoryAda>(floor, normalizes);
}

std::unique_ptr<const Allocator> make_ada_allocator(double floor) {
  return std::make_unique<Ada>(floor);
}

}  // namespace pikv::scheduling
