// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reach, our own: a slot is worth how far its head reaches times how much its key stands out.
//
//   reach of a head      w = mean over the slots j after the sinks of m_j
//   standing out         d_j = ||k_j - mean k||^2 / mean ||k - mean k||^2, over three places of
//   text score                w * d_j
//
// m_j is the largest attention weight that slot j received from afar: from a sampled query at least
// 32 tokens later (AttentionColumn::kLargestFar). A head that looks at its neighbourhood alone has
// small m everywhere; one that always looks at the same few slots has few large ones; a head that
// fetches different things from afar, as retrieval needs, has many. Keys are taken before RoPE;
// their means are over all tokens that were ever seen, so what was evicted still counts as
// ordinary.
//
// The scores are in one unit for all heads and layers, so one threshold over all of them spreads
// the budget: heads that retrieve keep nearly everything, local heads little but their ends.
#include <algorithm>

#include "scheduling/column.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/scorers/rotation.hpp"
#include "scheduling/smoothing.hpp"

namespace pikv::scheduling {
namespace {

constexpr std::int64_t kSinks = 4;
constexpr std::int64_t kRecents = 32;
constexpr std::int64_t kNeighbours = 3;

class Reach final : public Scorer {
 public:
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.key_moments = true,
            .columns = AttentionColumns(AttentionColumn::kLargestFar),
            .keys = true};
  }
  [[nodiscard]] Protection protection(std::int64_t budget_slots) const override {
    return {.sinks = std::min(kSinks, budget_slots / 2),
            .recents = std::min(kRecents, budget_slots / 2)};
  }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      add_deviations(slots, head, scores[h]);
      smooth_in_text(scores[h], head.positions, kNeighbours);
      const float reach = reach_of(slots, head);
      for (float& score : scores[h]) score *= reach;
    }
  }

 private:
  static float reach_of(const LayerSlots& slots, const HeadSlots& head) {
    const auto place = static_cast<std::size_t>(slots.columns.place(AttentionColumn::kLargestFar));
    double sum = head.evicted_columns.empty() ? 0.0 : head.evicted_columns[place];
    const Column largest(slots, head, AttentionColumn::kLargestFar);
    for (std::size_t i = 0; i < head.positions.size(); ++i) {
      if (head.positions[i] >= kSinks) sum += static_cast<double>(largest[i]);
    }
    return static_cast<float>(sum /
                              static_cast<double>(std::max<Position>(slots.next_position, 1)));
  }

  static void add_deviations(const LayerSlots& slots, const HeadSlots& head,
                             std::vector<float>& scores) {
    const KeyMoments& moments = head.key_moments;
    if (moments.count == 0 || moments.mean_square_deviation <= 0) {
      std::ranges::fill(scores, 1.0f);  // all keys are equal
      return;
    }
    const std::vector<float> keys = unrotated(head, slots.inverse_frequencies);
    const std::size_t dim = moments.mean.size();
    for (std::size_t i = 0; i < scores.size(); ++i) {
      float squares = 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const float difference = keys[i * dim + d] - moments.mean[d];
        squares += difference * difference;
      }
      scores[i] = squares / moments.mean_square_deviation;
    }
  }
};

}  // namespace

std::unique_ptr<const Scorer> make_reach_scorer(PolicyOptions&) {
  return std::make_unique<Reach>();
}

}  // namespace pikv::scheduling
