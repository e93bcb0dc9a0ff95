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
    const auto before = [](const Candidate& a, const Candidate& b) {
      if (a.score != b.score) return a.score > b.score;
      return std::tie(a.head, a.position) < std::tie(b.head, b.position);
    };
    // Of all heads together, so that what a head gave up once others may still use later.
    const std::int64_t share = budget.of(scores.next_position, scores.next_position);
    auto left = static_cast<std::int64_t>(counts.size()) * share;
    std::vector<Candidate> candidates;
    for (std::size_t h = 0; h < counts.size(); ++h) {
      const HeadScores& head = scores.heads[h];
      const auto first = static_cast<std::ptrdiff_t>(candidates.size());
      std::int64_t num_protected = 0;
      for (std::size_t i = 0; i < head.positions.size(); ++i) {
        if (protection.covers(head.positions[i], scores.next_position)) {
          ++num_protected;
        } else {
          candidates.push_back({head.scores[i], h, head.positions[i]});
        }
      }
      if (num_protected == 0 && !head.positions.empty()) {  // every head keeps its best
        std::iter_swap(std::min_element(candidates.begin() + first, candidates.end(), before),
                       candidates.end() - 1);
        candidates.pop_back();
        num_protected = 1;
      }
      counts[h] = std::min(share, num_protected);
      left -= counts[h];
    }
    left = std::min(left, static_cast<std::int64_t>(candidates.size()));
    const auto taken = candidates.begin() + left;
    std::ranges::nth_element(candidates, taken, before);
    std::for_each(candidates.begin(), taken, [&](const Candidate& c) { ++counts[c.head]; });
  }
};

}  // namespace

std::unique_ptr<const Allocator> make_global_allocator() { return std::make_unique<Global>(); }

}  // namespace pikv::scheduling
