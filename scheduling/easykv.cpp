// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The schedulers of EasyKV (Ren and Zhu 2024, "On the Efficacy of Eviction Policy for Key-Value
// Constrained Generative Language Model Inference", 2402.06262). While a context of L tokens is
// encoded, `stride` tokens are computed and as many evicted in turn; while text is generated, one
// is evicted a step, out of the generated ones.
//
// With a_t the attention of a query to a slot (mean over the group), n the queries that could see
// it, S and S2 the sums of a_t and a_t^2, and e_t = 0.96 e_(t-1) + 0.04 a_t:
//
//   h2o_head                smallest S                h2o_head_avg   smallest S / n
//   h2o_head_std            smallest S, h2o_head_std_avg (roco) smallest S / n, among the slots of
//                           least deviation sqrt(S2 / n - (S / n)^2); the former counts all queries
//                           as n, whatever the age of the slot
//   h2o_head_decay          smallest e
//   h2o_head_decay_avg_std  smallest e / n among those of least deviation of e_t
//   tova_head               smallest a_t of the newest query (Oren et al. 2024, 2401.06104); with
//                           heads=mean its mean over the KV heads, as later versions have it
//
// Methods without a deviation protect the newest tenth of the budget (generated text: three
// tenths, tova_head nothing); the others only the last ten, for what fluctuates is out of their
// reach anyway.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "scheduling/column.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/scorer.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

constexpr float kDecay = 0.96f;
constexpr double kRecentEncoding = 0.1;
constexpr double kRecentDecoding = 0.3;
constexpr std::int64_t kLastOnes = 10;

struct Method {
  bool decayed = false;  // e in place of S
  bool average = false;  // over n
  bool deviation = false;
};

class EasyKv final : public Scheduler {
 public:
  struct Options {
    bool encodes;
    bool decodes;
    std::int64_t stride;
    std::int64_t sinks;
  };
  /// `newest`: what slots are worth instead of by the method, or null.
  EasyKv(const Method& method, const Options& options,
         std::unique_ptr<const Scorer> newest = nullptr)
      : method_(method), options_(options), newest_(std::move(newest)) {}

  [[nodiscard]] bool evicts() const override { return true; }

  [[nodiscard]] SchedulerNeeds needs() const override {
    if (newest_ != nullptr) return newest_->needs();
    AttentionColumns columns;
    if (method_.decayed) {
      columns = AttentionColumns(AttentionColumn::kDecayed);
      if (method_.deviation) {
        columns = columns | AttentionColumns(AttentionColumn::kDecayedSum,
                                             AttentionColumn::kDecayedSquareSum);
      }
    } else {
      columns = AttentionColumns(AttentionColumn::kSum);
      if (method_.deviation) columns = columns | AttentionColumns(AttentionColumn::kSquareSum);
    }
    return {.columns = columns, .column_decay = kDecay, .in_order = false};
  }

  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t num_context,
                                      const KvBudget& budget) const override {
    std::int64_t next = kNever;
    if (options_.encodes && num_computed < num_context) {
      const std::int64_t first = encoded_slots(num_context, budget);
      const std::int64_t strides =
          std::max<std::int64_t>(num_computed - first, 0) / options_.stride;
      const std::int64_t run = first + (strides + 1) * options_.stride;
      if (run <= num_context) next = run;
    }
    if (options_.decodes) {
      const std::int64_t first =
          options_.encodes ? num_context : num_context + generated_slots(num_context, budget);
      next = std::min(next, std::max(first, num_computed) + 1);
    }
    return next;
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    if (newest_ != nullptr) newest_->score(exec, slots, scores);
    for (std::size_t h = 0; h < scores.size(); ++h) score_head(slots, slots.heads[h], scores[h]);
  }

  void select(const SequenceScores& scores, const KvBudget& budget,
              std::span<std::vector<std::int32_t>> evict) const override {
    const Range range = range_of(scores.next_position, scores.num_context, budget);
    for (std::size_t i = 0; i < evict.size(); ++i) {
      const HeadScores& head = scores.heads[i];
      const auto in_range = std::ranges::count_if(
          head.positions, [&](Position p) { return p >= range.first_counted; });
      const std::int64_t surplus = std::max<std::int64_t>(in_range - range.num_kept, 0);
      // Protected slots have the largest score; they are never more than what is kept.
      evict[i] = worst(head, {.sinks = range.first_counted, .recents = 0}, scores.next_position,
                       static_cast<std::size_t>(surplus));
    }
  }

 private:
  /// Which slots a run is about. Positions below first_counted are neither counted nor evicted.
  struct Range {
    Position first_counted;
    std::int64_t num_kept;    // of those counted
    std::int64_t sinks;       // positions that are protected
    std::int64_t recents;     // the newest ones, where no deviation decides
    std::int64_t num_stable;  // how many of least deviation may be evicted
  };

  /// What is kept of a context of L tokens: the largest number up to B that leaves whole strides.
  [[nodiscard]] std::int64_t encoded_slots(std::int64_t length, const KvBudget& budget) const {
    const std::int64_t most = encoding_budget(length, budget);
    if (most >= length) return length;
    const std::int64_t odd =
        ((most - length) % options_.stride + options_.stride) % options_.stride;
    return std::max<std::int64_t>(most - odd, 1);
  }
  [[nodiscard]] std::int64_t encoding_budget(std::int64_t length, const KvBudget& budget) const {
    if (budget.slots) return *budget.slots;
    return static_cast<std::int64_t>(static_cast<double>(length) * budget.fraction.value_or(1.0)) +
           options_.stride;
  }
  [[nodiscard]] static std::int64_t generated_slots(std::int64_t length, const KvBudget& budget) {
    if (budget.slots) return *budget.slots;
    return static_cast<std::int64_t>(static_cast<double>(length) * budget.fraction.value_or(1.0));
  }

  [[nodiscard]] Range range_of(std::int64_t num_tokens, std::int64_t num_context,
                               const KvBudget& budget) const {
    if (!options_.encodes) {
      const std::int64_t most = generated_slots(num_context, budget);
      const double recent = newest_ != nullptr ? 0 : kRecentDecoding;
      const auto recents = static_cast<std::int64_t>(recent * static_cast<double>(most));
      return {.first_counted = static_cast<Position>(num_context),
              .num_kept = most,
              .sinks = 0,
              .recents = recents,
              .num_stable = most - recents};
    }
    const std::int64_t most = encoding_budget(num_context, budget);
    const auto recents = static_cast<std::int64_t>(kRecentEncoding * static_cast<double>(most));
    const std::int64_t evicted = num_tokens <= num_context ? options_.stride : 1;
    return {.first_counted = 0,
            .num_kept = encoded_slots(num_context, budget),
            .sinks = options_.sinks,
            .recents = recents,
            .num_stable = std::max(most - recents - options_.sinks, evicted)};
  }

  void score_head(const LayerSlots& slots, const HeadSlots& head,
                  std::vector<float>& scores) const {
    const Range range = range_of(slots.next_position, slots.num_context, slots.budget);
    const std::int64_t recents = method_.deviation ? kLastOnes : range.recents;
    std::vector<std::size_t> candidates;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const Position position = head.positions[i];
      if (position < range.first_counted || position < range.sinks ||
          position >= slots.next_position - recents) {
        scores[i] = kProtected;
      } else {
        candidates.push_back(i);
      }
    }
    if (newest_ != nullptr) return;
    if (method_.deviation && static_cast<std::int64_t>(candidates.size()) > range.num_stable) {
      std::vector<float> deviations(scores.size());
      add_deviations(slots, head, range, candidates, deviations);
      const auto cut = candidates.begin() + static_cast<std::ptrdiff_t>(range.num_stable);
      std::ranges::nth_element(candidates, cut, [&](std::size_t a, std::size_t b) {
        if (deviations[a] != deviations[b]) return deviations[a] < deviations[b];
        return head.positions[a] < head.positions[b];
      });
      for (auto i = cut; i != candidates.end(); ++i) scores[*i] = kProtected;
      candidates.erase(cut, candidates.end());
    }
    const Column totals(slots, head,
                        method_.decayed ? AttentionColumn::kDecayed : AttentionColumn::kSum);
    for (const std::size_t i : candidates) {
      scores[i] = method_.average ? totals[i] / age(slots, head, i) : totals[i];
    }
  }

  /// Queries that could see slot i.
  [[nodiscard]] static float age(const LayerSlots& slots, const HeadSlots& head, std::size_t i) {
    return static_cast<float>(slots.next_position - head.positions[i]);
  }

  void add_deviations(const LayerSlots& slots, const HeadSlots& head, const Range& range,
                      const std::vector<std::size_t>& candidates,
                      std::vector<float>& deviations) const {
    const Column sums(slots, head,
                      method_.decayed ? AttentionColumn::kDecayedSum : AttentionColumn::kSum);
    const Column squares(
        slots, head,
        method_.decayed ? AttentionColumn::kDecayedSquareSum : AttentionColumn::kSquareSum);
    // Without averages no ages are known: all queries since the start count for every slot.
    const auto all = static_cast<float>(slots.next_position - range.first_counted);
    for (const std::size_t i : candidates) {
      const float n = method_.average ? age(slots, head, i) : all;
      const float mean = sums[i] / n;
      // The difference of two rounded numbers may be below 0 where attention is steady.
      deviations[i] = std::sqrt(std::max(squares[i] / n - mean * mean, 0.0f));
    }
  }

  static constexpr float kProtected = std::numeric_limits<float>::max();

  Method method_;
  Options options_;
  std::unique_ptr<const Scorer> newest_;
};

std::unique_ptr<const Scheduler> make(const Method& method, PolicyOptions& options,
                                      std::unique_ptr<const Scorer> newest = nullptr) {
  constexpr std::array<std::string_view, 3> kMoments = {"stride", "decode", "both"};
  const std::string when = options.choice("when", "both", kMoments);
  const std::int64_t stride = options.integer("stride", 16, 1, 1 << 20);
  const std::int64_t sinks = options.integer("sinks", 4, 0, 1 << 20);
  options.finish();
  return std::make_unique<EasyKv>(method,
                                  EasyKv::Options{.encodes = when != "decode",
                                                  .decodes = when != "stride",
                                                  .stride = stride,
                                                  .sinks = sinks},
                                  std::move(newest));
}

}  // namespace

std::unique_ptr<const Scheduler> make_h2o_head(PolicyOptions options) { return make({}, options); }
std::unique_ptr<const Scheduler> make_h2o_head_avg(PolicyOptions options) {
  return make({.average = true}, options);
}
std::unique_ptr<const Scheduler> make_h2o_head_std(PolicyOptions options) {
  return make({.deviation = true}, options);
}
std::unique_ptr<const Scheduler> make_h2o_head_std_avg(PolicyOptions options) {
  return make({.average = true, .deviation = true}, options);
}
std::unique_ptr<const Scheduler> make_h2o_head_decay(PolicyOptions options) {
  return make({.decayed = true}, options);
}
std::unique_ptr<const Scheduler> make_h2o_head_decay_avg_std(PolicyOptions options) {
  return make({.decayed = true, .average = true, .deviation = true}, options);
}

std::unique_ptr<const Scheduler> make_tova_head(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kHeads = {"each", "mean"};
  const bool over_layer = options.choice("heads", "each", kHeads) == "mean";
  return make({}, options, make_newest_attention({}, over_layer));
}

}  // namespace pikv::scheduling
