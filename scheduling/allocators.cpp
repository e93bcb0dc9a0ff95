// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "scheduling/scorer.hpp"

namespace pikv::scheduling {
namespace {

std::int64_t size_of(const HeadScores& head) {
  return static_cast<std::int64_t>(head.positions.size());
}

class Uniform final : public Allocator {
 public:
  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      counts[i] = budget.of(size_of(scores.heads[i]), scores.next_position);
    }
  }
};

class Pyramid final : public Allocator {
 public:
  Pyramid(double beta, std::int64_t window) : beta_(beta), window_(window) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    const std::size_t num_layers = counts.size() / num_heads;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t n = size_of(scores.heads[i]);
      counts[i] =
          std::clamp<std::int64_t>(budget_of_layer(n, budget, static_cast<double>(i / num_heads),
                                                   static_cast<double>(num_layers)),
                                   std::min<std::int64_t>(n, 1), n);
    }
  }

 private:
  [[nodiscard]] std::int64_t budget_of_layer(std::int64_t n, const KvBudget& budget, double layer,
                                             double num_layers) const {
    const auto length = static_cast<double>(n);
    const auto window = static_cast<double>(window_);
    double mean = budget.fraction ? length * *budget.fraction : length;
    if (budget.slots) mean = std::min(mean, static_cast<double>(*budget.slots));
    double least = mean / beta_;
    double most = 2 * mean - least;
    if (most >= length - window) {
      most = length - window;
      least = 2 * mean - most;
    }
    if (!(length >= most && most >= least && least >= window)) {
      return static_cast<std::int64_t>(std::nearbyint(mean));
    }
    const double step = num_layers > 1 ? (most - least) / (num_layers - 1) : 0;
    return static_cast<std::int64_t>(std::nearbyint(most - layer * step));
  }

  double beta_;
  std::int64_t window_;
};

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
      const std::int64_t share = std::min(whole_share, size_of(heads[h]));
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

std::unique_ptr<const Allocator> make_uniform_allocator() { return std::make_unique<Uniform>(); }

std::unique_ptr<const Allocator> make_pyramid_allocator(double beta, std::int64_t window) {
  return std::make_unique<Pyramid>(beta, window);
}

std::unique_ptr<const Allocator> make_ada_allocator(double floor) {
  return std::make_unique<Ada>(floor);
}

}  // namespace pikv::scheduling
