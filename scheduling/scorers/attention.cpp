// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores from the attention that slots have received so far, of which they keep account themselves.
#include <algorithm>

#include "scheduling/column.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

/// A share of the budget is for the newest slots.
std::int64_t share_of(double share, std::int64_t budget_slots) {
  return static_cast<std::int64_t>(share * static_cast<double>(budget_slots));
}

/// H2O (Zhang et al. 2023, 2306.14048): the heavy hitters, which received most attention in all,
/// beside the newest.
class H2O final : public Scorer {
 public:
  explicit H2O(double recent) : recent_(recent) {}
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.columns = AttentionColumns(AttentionColumn::kSum), .in_order = false};
  }
  [[nodiscard]] bool gives_attention() const override { return true; }
  [[nodiscard]] Protection protection(std::int64_t budget_slots) const override {
    return {.sinks = 0, .recents = share_of(recent_, budget_slots)};
  }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      Column(slots, slots.heads[h], AttentionColumn::kSum).copy_to(scores[h]);
    }
  }

 private:
  double recent_;
};

/// The mean attention over the queries that could see a slot, as kvpress has H2O: without the bonus
/// of age.
class ObservedAttention final : public Scorer {
 public:
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.columns = AttentionColumns(AttentionColumn::kSum), .in_order = false};
  }
  [[nodiscard]] bool gives_attention() const override { return true; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      const Column sums(slots, head, AttentionColumn::kSum);
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        scores[h][i] = sums[i] / static_cast<float>(slots.next_position - head.positions[i]);
      }
    }
  }
};

/// u = -r + lambda * f with the tokens r since a slot was last used and the number f of its uses: a
/// slot is used by a query that gives it more than an even share of its attention. lambda = 0 is
/// LRU; without r, LFU.
class Usage final : public Scorer {
 public:
  struct Weights {
    float recency;
    float frequency;
  };
  Usage(const Weights& weights, double recent) : weights_(weights), recent_(recent) {}
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.columns = AttentionColumns(AttentionColumn::kLastUse, AttentionColumn::kNumUses),
            .in_order = false};
  }
  [[nodiscard]] Protection protection(std::int64_t budget_slots) const override {
    return {.sinks = 0, .recents = share_of(recent_, budget_slots)};
  }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      const Column last_uses(slots, head, AttentionColumn::kLastUse);
      const Column num_uses(slots, head, AttentionColumn::kNumUses);
      const auto next = static_cast<float>(slots.next_position);
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        // To be written counts as a use.
        const float age = next - std::max(last_uses[i], static_cast<float>(head.positions[i]));
        scores[h][i] = weights_.frequency * num_uses[i] - weights_.recency * age;
      }
    }
  }

 private:
  Weights weights_;
  double recent_;
};

}  // namespace

std::unique_ptr<const Scorer> make_h2o(PolicyOptions& options) {
  return std::make_unique<H2O>(options.number("recent", 0.5, 0, 1));
}

std::unique_ptr<const Scorer> make_observed_attention(PolicyOptions&) {
  return std::make_unique<ObservedAttention>();
}

std::unique_ptr<const Scorer> make_lru(PolicyOptions&) {
  return std::make_unique<Usage>(Usage::Weights{.recency = 1, .frequency = 0}, 0);
}

std::unique_ptr<const Scorer> make_lru_plus(PolicyOptions& options) {
  const auto lambda = static_cast<float>(options.number("lambda", 4, 0, 1e6));
  return std::make_unique<Usage>(Usage::Weights{.recency = 1, .frequency = lambda}, 0);
}

std::unique_ptr<const Scorer> make_lfu(PolicyOptions& options) {
  // Of two that were used as often, the one used last stays.
  const double recent = options.number("recent", 0.1, 0, 1);
  return std::make_unique<Usage>(Usage::Weights{.recency = 1e-6f, .frequency = 1}, recent);
}

}  // namespace pikv::scheduling
