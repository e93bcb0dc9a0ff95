// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <tuple>

#include "scheduling/allocators/makers.hpp"

namespace pikv::scheduling {
namespace {

class Global final : public Allocator {
 public:
  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection& protection,
                std::span<std::int64_t> counts) const override {
    struct Candidate {
      float score;
      std::size_t head;  // [L, Hkv]: in the order of layers
      Position position;
    };
    std::vector<Candidate> candidates;
    std::int64_t left = 0;
    for (std::size_t h = 0; h < counts.size(); ++h) {
      const HeadScores& head = scores.heads[h];
      const std::vector<std::int32_t> order = ranked(head, protection, scores.next_position);
      const auto num_protected = std::ranges::count_if(
          head.positions, [&](Position p) { return protection.covers(p, scores.next_position); });
      const std::int64_t share = budget.of(static_cast<std::int64_t>(order.size()));
      counts[h] = std::min<std::int64_t>(share, std::max<std::int64_t>(num_protected, 1));
      left += share - counts[h];
      for (std::size_t i = static_cast<std::size_t>(counts[h]); i < order.size(); ++i) {
        const auto slot = static_cast<std::size_t>(order[i]);
        candidates.push_back({head.scores[slot], h, head.positions[slot]});
      }
    }
    const auto taken = candidates.begin() + left;
    std::ranges::nth_element(candidates, taken, [](const Candidate& a, const Candidate& b) {
      if (a.score != b.score) return a.score > b.score;
      return std::tie(a.head, a.position) < std::tie(b.head, b.position);
    });
    std::for_each(candidates.begin(), taken, [&](const Candidate& c) { ++counts[c.head]; });
  }
};

}  // namespace

std::unique_ptr<const Allocator> make_global_allocator() { return std::make_unique<Global>(); }

}  // namespace pikv::scheduling
