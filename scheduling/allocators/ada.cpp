// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "scheduling/allocators/makers.hpp"

namespace pikv::scheduling {
namespace {

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
    struct Candidate {
      float score;
      Position position;
      std::size_t head;
    };
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
        candidates.push_back({heads[h].scores[slot], heads[h].positions[slot], h});
      }
    }
    std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
      if (a.score != b.score) return a.score > b.score;
      if (a.position != b.position) return a.position < b.position;
      return a.head < b.head;
    });
    for (std::size_t i = 0; i < candidates.size() && static_cast<std::int64_t>(i) < left; ++i) {
      ++counts[candidates[i].head];
    }
  }

  double floor_;
};

}  // namespace

std::unique_ptr<const Allocator> make_ada_allocator(double floor) {
  return std::make_unique<Ada>(floor);
}

}  // namespace pikv::scheduling
