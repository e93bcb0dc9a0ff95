// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every scheduler promises (core/policy/scheduler.hpp), over the whole table.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <functional>
#include <numeric>
#include <tuple>

#include "kernels/common/error.hpp"
#include "scheduling/tables.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/support/label.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kDim = 8;
constexpr std::int64_t kHidden = 12;
constexpr std::int64_t kLayers = 3;

constexpr AttentionColumns kAllColumns(AttentionColumn::kSum, AttentionColumn::kSquareSum,
                                       AttentionColumn::kDecayed, AttentionColumn::kDecayedSum,
                                       AttentionColumn::kDecayedSquareSum,
                                       AttentionColumn::kLargestFar, AttentionColumn::kLastUse,
                                       AttentionColumn::kNumUses);

/// Slots of one sequence, heads of different lengths, as an earlier eviction leaves them.
class SomeSlots {
 public:
  SomeSlots(Random& random, Position next, bool equal_keys) : next_(next) {
    for (std::int64_t i = 0; i < kLayers * kKvHeads; ++i) {
      std::vector<Position>& positions = positions_.emplace_back();
      const std::int64_t gap = i % 2 == 0 ? 0 : 3;
      for (Position p = 0; p < next; ++p) {
        if (random.integer(0, gap) == 0) positions.push_back(p);
      }
      const auto floats = static_cast<std::int64_t>(positions.size()) * kDim;
      keys_.push_back(equal_keys ? std::vector<float>(static_cast<std::size_t>(floats), 0.5f)
                                 : random.normals(floats));
      values_.push_back(random.normals(floats));
      columns_.push_back(
          random.normals(static_cast<std::int64_t>(positions.size()) * kNumAttentionColumns));
      for (float& x : columns_.back()) x = std::abs(x);
      reread_scores_.push_back(random.normals(static_cast<std::int64_t>(positions.size())));
      for (float& x : reread_scores_.back()) x = equal_keys ? 0.5f : std::abs(x);
    }
    const std::int64_t rows = std::min<std::int64_t>(next, 64);
    for (Position p = next - static_cast<Position>(rows); p < next; ++p) {
      query_positions_.push_back(p);
    }
    queries_ = random.normals(rows * kHeads * kDim);
    mean_ = random.normals(kHeads * kDim);
    covariance_.assign(static_cast<std::size_t>(kHeads * kDim * kDim), 0.0f);
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t d = 0; d < kDim; ++d) {
        covariance_[static_cast<std::size_t>((h * kDim + d) * kDim + d)] = 0.25f;
      }
    }
    projection_ = random.normals(kHeads * kHidden * kDim);
  }

  [[nodiscard]] SequenceScores score(const Scheduler& scheduler, Exec& exec,
                                     const KvBudget& budget) const {
    SequenceScores result{.sequence = SequenceId{1},
                          .next_position = next_,
                          .num_context = next_,
                          .num_kv_heads = kKvHeads,
                          .heads = {}};
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      std::vector<HeadSlots> heads;
      std::vector<std::vector<float>> scores;
      for (std::int64_t h = 0; h < kKvHeads; ++h) {
        const auto i = static_cast<std::size_t>(layer * kKvHeads + h);
        const auto count = static_cast<std::int64_t>(positions_[i].size());
        heads.push_back(
            {.positions = positions_[i],
             .keys = {keys_[i].data(), {count, kDim}},
             .values = {values_[i].data(), {count, kDim}},
             .columns = {columns_[i].data(), {count, kNumAttentionColumns}},
             .key_moments = {.count = next_, .mean = kMeanKey, .mean_square_deviation = 8.0f},
             .reread_scores = reread_scores_[i]});
        scores.emplace_back(positions_[i].size());
      }
      const auto rows = static_cast<std::int64_t>(query_positions_.size());
      const std::int64_t moments = std::max<std::int64_t>(0, next_ - kFirstMomentPosition);
      // As many of the newest queries as the scheduler asked for, like the pass.
      const std::int64_t asked = std::min(rows, scheduler.needs().query_rows);
      scheduler.score(
          exec,
          {.sequence = SequenceId{1},
           .layer = id_from<LayerId>(layer),
           .next_position = next_,
           .num_context = next_,
           .heads = heads,
           .budget = budget,
           .inverse_frequencies = kFrequencies,
           .columns = kAllColumns,
           .queries = {queries_.data() + (rows - asked) * kHeads * kDim, {asked, kHeads, kDim}},
           .query_positions = std::span(query_positions_).last(static_cast<std::size_t>(asked)),
           .moments = {.count = moments,
                       .mean = {mean_.data(), {kHeads, kDim}},
                       .covariance = {covariance_.data(), {kHeads, kDim, kDim}}},
           .output_projection = {projection_.data(), {kHeads, kHidden, kDim}}},
          scores);
      for (std::int64_t h = 0; h < kKvHeads; ++h) {
        const auto i = static_cast<std::size_t>(layer * kKvHeads + h);
        EXPECT_EQ(scores[static_cast<std::size_t>(h)].size(), positions_[i].size());
        result.heads.push_back({positions_[i], scores[static_cast<std::size_t>(h)]});
      }
    }
    return result;
  }

  /// What is merged where, of all heads, when the last token was generated: by positions, in the
  /// order of these. The slots are handed over in their order or the other way round.
  using Term = std::tuple<Position, Position, float>;  // to, from
  [[nodiscard]] std::vector<std::vector<Term>> merge(
      const Scheduler& scheduler, Exec& exec, const SequenceScores& scores,
      const std::vector<std::vector<std::int32_t>>& evict, bool reversed) const {
    const MergeNeeds needs = scheduler.merge_needs();
    std::vector<std::vector<Term>> result;
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      std::vector<HeadScores> heads;
      std::vector<std::vector<std::int32_t>> going;
      std::vector<std::vector<float>> keys, values;
      std::vector<View<const float, 2>> key_views, value_views;
      for (std::int64_t h = 0; h < kKvHeads; ++h) {
        const auto i = static_cast<std::size_t>(layer * kKvHeads + h);
        heads.push_back(scores.heads[i]);
        going.push_back(evict[i]);
        keys.push_back(keys_[i]);
        values.push_back(values_[i]);
        const auto count = static_cast<std::int64_t>(heads.back().positions.size());
        if (reversed) {
          std::ranges::reverse(heads.back().positions);
          std::ranges::reverse(heads.back().scores);
          std::ranges::reverse(going.back());
          for (std::int32_t& slot : going.back()) {
            slot = static_cast<std::int32_t>(count) - 1 - slot;
          }
          for (auto* rows : {&keys.back(), &values.back()}) {
            std::ranges::reverse(*rows);
            for (auto row = rows->begin(); row != rows->end(); row += kDim) {
              std::reverse(row, row + kDim);
            }
          }
        }
        // Moved into its place, a vector keeps its memory.
        key_views.push_back({keys.back().data(), {needs.keys ? count : 0, kDim}});
        value_views.push_back({values.back().data(), {needs.values ? count : 0, kDim}});
      }
      std::vector<std::vector<ValueTerm>> terms(kKvHeads);
      scheduler.merge(exec,
                      {.sequence = SequenceId{1},
                       .layer = id_from<LayerId>(layer),
                       .next_position = next_,
                       .num_context = next_ - 1,
                       .heads = heads,
                       .evict = going,
                       .keys = key_views,
                       .values = value_views},
                      terms);
      for (std::size_t h = 0; h < terms.size(); ++h) {
        std::vector<Term>& head = result.emplace_back();
        for (const ValueTerm& term : terms[h]) {
          const auto n = static_cast<std::int32_t>(heads[h].positions.size());
          EXPECT_TRUE(term.to >= 0 && term.to < n && term.from >= 0 && term.from < n);
          const auto goes = [&](std::int32_t slot) {
            return std::ranges::find(going[h], slot) != going[h].end();
          };
          EXPECT_FALSE(goes(term.to));
          EXPECT_TRUE(term.from == term.to || goes(term.from));
          EXPECT_TRUE(std::isfinite(term.weight));
          head.emplace_back(heads[h].positions[static_cast<std::size_t>(term.to)],
                            heads[h].positions[static_cast<std::size_t>(term.from)], term.weight);
        }
        std::ranges::sort(head);
        EXPECT_EQ(
            std::ranges::adjacent_find(
                head, {},
                [](const Term& term) { return std::pair(std::get<0>(term), std::get<1>(term)); }),
            head.end())
            << "each term once";
      }
    }
    return result;
  }

  [[nodiscard]] std::size_t size() const {
    return std::accumulate(positions_.begin(), positions_.end(), std::size_t{0},
                           [](std::size_t sum, const auto& p) { return sum + p.size(); });
  }

 private:
  static constexpr std::array<float, kDim> kMeanKey = {0.1f, -0.2f, 0.0f, 0.3f};
  static constexpr std::array<float, kDim / 2> kFrequencies = {1.0f, 0.1f, 0.01f, 0.001f};
  Position next_;
  std::vector<std::vector<Position>> positions_;
  std::vector<std::vector<float>> keys_, values_, columns_, reread_scores_;
  std::vector<Position> query_positions_;
  std::vector<float> queries_, mean_, covariance_, projection_;
};

class SchedulerContract : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::vector<std::vector<std::int32_t>> select(const SequenceScores& scores,
                                                              const KvBudget& budget) const {
    std::vector<std::vector<std::int32_t>> evict(scores.heads.size());
    scheduler_->select(scores, budget, evict);
    return evict;
  }
  [[nodiscard]] static std::unique_ptr<const Scheduler> made(const std::string& options) {
    const char* const separator = GetParam().find(':') == std::string::npos ? ":" : ",";
    return make_policy("scheduler", scheduling::schedulers(), GetParam() + separator + options);
  }
  [[nodiscard]] static bool is_of_decode() { return GetParam() == "cam"; }
  /// The method's own arithmetic decides how many stay, see its own test.
  [[nodiscard]] static bool counts_otherwise() {
    return GetParam().starts_with("pyramidkv") || GetParam().starts_with("adakv:rule=factory") ||
           is_easykv();
  }
  [[nodiscard]] static bool is_easykv() {
    return GetParam().starts_with("h2o_head") || GetParam().starts_with("tova_head") ||
           GetParam() == "roco";
  }

  Exec exec_ = Exec::cpu(1);
  std::unique_ptr<const Scheduler> scheduler_ =
      make_policy("scheduler", scheduling::schedulers(), GetParam());
};

TEST_P(SchedulerContract, EvictsAscendingSlotsBeyondTheBudget) {
  Random random(201);
  const std::vector<KvBudget> budgets = {{.fraction = 0.5}, {.fraction = 0.07}, {.fraction = 1.0},
                                         {.slots = 1},      {.slots = 37},      {.slots = 100'000}};
  for (const Position next : {0, 1, 2, 5, 63, 64, 65, 300, 601}) {
    for (const bool equal_keys : {false, true}) {
      const SomeSlots slots(random, next, equal_keys);
      for (const KvBudget& budget : budgets) {
        SCOPED_TRACE(testing::Message()
                     << "next " << next << ", budget " << budget.fraction.value_or(-1) << " / "
                     << budget.slots.value_or(-1));
        const SequenceScores scores = slots.score(*scheduler_, exec_, budget);
        std::int64_t allowed = 0;
        for (const HeadScores& head : scores.heads) {
          for (const float s : head.scores) ASSERT_FALSE(std::isnan(s));
          allowed += budget.of(static_cast<std::int64_t>(head.positions.size()), next);
        }
        const auto evict = select(scores, budget);
        std::int64_t kept = static_cast<std::int64_t>(slots.size());
        for (std::size_t h = 0; h < evict.size(); ++h) {
          ASSERT_EQ(std::ranges::adjacent_find(evict[h], std::greater_equal<>{}), evict[h].end());
          ASSERT_TRUE(evict[h].empty() || evict[h].front() >= 0);
          ASSERT_TRUE(evict[h].empty() ||
                      evict[h].back() < static_cast<std::int32_t>(scores.heads[h].scores.size()));
          kept -= static_cast<std::int64_t>(evict[h].size());
        }
        EXPECT_EQ(select(scores, budget), evict) << "the same twice";
        if (!scheduler_->evicts()) {
          EXPECT_EQ(kept, static_cast<std::int64_t>(slots.size())) << "who never evicts keeps all";
        } else if (!counts_otherwise()) {
          // Heads that hold less than their share leave the rest to others, or to nobody.
          EXPECT_GE(kept, allowed);
          EXPECT_LE(kept, budget.of(next, next) * static_cast<std::int64_t>(evict.size()));
        }
      }
    }
  }
}

TEST_P(SchedulerContract, WhatIsEvictedDoesNotDependOnTheOrderOfTheSlots) {
  Random random(203);
  const SomeSlots slots(random, 301, false);
  const KvBudget budget{.fraction = 0.3};
  const SequenceScores scores = slots.score(*scheduler_, exec_, budget);
  const auto evicted_positions = [&](const SequenceScores& from) {
    std::vector<std::vector<Position>> result;
    const auto evict = select(from, budget);
    for (std::size_t h = 0; h < evict.size(); ++h) {
      std::vector<Position>& positions = result.emplace_back();
      for (const std::int32_t i : evict[h]) {
        positions.push_back(from.heads[h].positions[static_cast<std::size_t>(i)]);
      }
      std::ranges::sort(positions);
    }
    return result;
  };
  SequenceScores reversed = scores;
  for (HeadScores& head : reversed.heads) {
    std::ranges::reverse(head.positions);
    std::ranges::reverse(head.scores);
  }
  EXPECT_EQ(evicted_positions(reversed), evicted_positions(scores));
}

TEST_P(SchedulerContract, ABudgetOfEverythingKeepsEverything) {
  Random random(202);
  const SomeSlots slots(random, 200, false);
  const KvBudget all{.fraction = 1.0};
  for (const auto& head : select(slots.score(*scheduler_, exec_, all), all)) {
    EXPECT_TRUE(head.empty());
  }
}

TEST_P(SchedulerContract, WhatGoesIsMergedIntoWhatStaysWhateverTheOrderOfTheSlots) {
  Random random(204);
  std::size_t num_terms = 0;
  for (const Position next : {1, 2, 63, 301}) {
    for (const bool equal_keys : {false, true}) {
      const SomeSlots slots(random, next, equal_keys);
      for (const KvBudget& budget : {KvBudget{.fraction = 0.4}, KvBudget{.slots = 1}}) {
        SCOPED_TRACE(testing::Message() << "next " << next << ", equal keys " << equal_keys);
        const SequenceScores scores = slots.score(*scheduler_, exec_, budget);
        const auto evict = select(scores, budget);
        const auto terms = slots.merge(*scheduler_, exec_, scores, evict, false);
        EXPECT_EQ(slots.merge(*scheduler_, exec_, scores, evict, false), terms) << "the same twice";
        EXPECT_EQ(slots.merge(*scheduler_, exec_, scores, evict, true), terms);
        for (std::size_t h = 0; h < terms.size(); ++h) {
          EXPECT_TRUE(terms[h].empty() || !evict[h].empty());
          num_terms += terms[h].size();
        }
      }
    }
  }
  EXPECT_EQ(num_terms > 0, scheduler_->merge_needs().merges);
}

TEST_P(SchedulerContract, KeepsWhatTheUserProtects) {
  if (!scheduler_->evicts()) GTEST_SKIP() << "keeps everything";
  // Where a method itself protects as much as it keeps, the best of all that is protected stay.
  if (is_easykv()) GTEST_SKIP() << "it protects by its own rule";
  if (GetParam() == "simlayerkv") GTEST_SKIP() << "its ends are longer than this sequence";
  if (GetParam().starts_with("pyramidkv")) GTEST_SKIP() << "its last layer keeps just its window";
  Random random(203);
  const auto scheduler = made("keep_first=7,keep_last=5");
  for (const bool equal_keys : {false, true}) {
    const SomeSlots slots(random, 400, equal_keys);
    const KvBudget budget{.fraction = 0.5};
    const SequenceScores scores = slots.score(*scheduler, exec_, budget);
    std::vector<std::vector<std::int32_t>> evict(scores.heads.size());
    scheduler->select(scores, budget, evict);
    for (std::size_t h = 0; h < evict.size(); ++h) {
      for (const std::int32_t i : evict[h]) {
        const Position position = scores.heads[h].positions[static_cast<std::size_t>(i)];
        EXPECT_TRUE(position >= 7 && position < 400 - 5) << "head " << h << ", " << position;
      }
    }
  }
}

TEST_P(SchedulerContract, KeepsOneOfEveryHeadThatHoldsSlots) {
  const Position next = 9;
  SequenceScores scores{.sequence = SequenceId{1},
                        .next_position = next,
                        .num_context = next,
                        .num_kv_heads = kKvHeads,
                        .heads = std::vector<HeadScores>(kLayers * kKvHeads)};
  for (std::size_t h = 0; h < scores.heads.size(); h += 2) {
    scores.heads[h] = {{1, 4, 8}, {0.5f, 0.5f, 0.5f}};
  }
  const auto evict = select(scores, {.slots = 1});
  for (std::size_t h = 0; h < evict.size(); ++h) {
    const std::size_t whole = scores.heads[h].positions.size();
    EXPECT_LE(evict[h].size(), whole > 0 ? whole - 1 : 0);
  }
}

TEST_P(SchedulerContract, TheNextRunIsLaterAndTheSameUntilThen) {
  for (const KvBudget& budget : {KvBudget{.fraction = 0.5}, KvBudget{.slots = 20}}) {
    for (const std::int64_t context : {0, 1, 40, 100}) {
      for (std::int64_t from = 0; from < 160;) {
        const std::int64_t next = scheduler_->next_run(from, context, budget);
        ASSERT_GT(next, from);
        if (next == Scheduler::kNever) break;
        for (std::int64_t i = from; i < std::min<std::int64_t>(next, 160); ++i) {
          ASSERT_EQ(scheduler_->next_run(i, context, budget), next) << i << " of " << context;
        }
        from = next;
      }
    }
  }
  if (!scheduler_->evicts()) return;
  const KvBudget half{.fraction = 0.5};
  if (is_easykv()) {
    EXPECT_EQ(made("when=stride,stride=8")->next_run(0, 248, half), 136);
    EXPECT_EQ(made("when=stride,stride=8")->next_run(248, 248, half), Scheduler::kNever);
    EXPECT_EQ(made("when=decode")->next_run(0, 32, {.slots = 64}), 97);
    EXPECT_EQ(made("when=decode")->next_run(97, 32, {.slots = 64}), 98);
    return;
  }
  if (is_of_decode()) {
    EXPECT_THROW((void)made("when=prefill"), InvalidArgument);
    EXPECT_THROW((void)made("when=stride"), InvalidArgument);
    EXPECT_EQ(made("when=decode,every=1")->next_run(0, 100, half), 101);
    EXPECT_EQ(made("when=both,every=1")->next_run(99, 100, half), 100);
    EXPECT_EQ(made("when=both,every=3")->next_run(100, 100, half), 103);
    return;
  }
  EXPECT_EQ(made("when=prefill")->next_run(50, 100, half), 100);
  EXPECT_EQ(made("when=prefill")->next_run(100, 100, half), Scheduler::kNever);
  EXPECT_EQ(made("when=decode,every=8")->next_run(100, 100, half), 108);
  EXPECT_EQ(made("when=decode,every=8")->next_run(115, 100, half), 116);
  EXPECT_EQ(made("when=stride,stride=30")->next_run(60, 100, half), 90);
  EXPECT_EQ(made("when=stride,stride=30")->next_run(90, 100, half), 100);
  EXPECT_EQ(made("when=both,every=1")->next_run(100, 100, half), 101);
}

INSTANTIATE_TEST_SUITE_P(Schedulers, SchedulerContract,
                         testing::ValuesIn(names_of(scheduling::schedulers())),
                         [](const auto& info) { return info.param; });

// Options that are as good as another method.
INSTANTIATE_TEST_SUITE_P(Variants, SchedulerContract,
                         testing::Values("snapkv:pooling=max", "snapkv:group=max",
                                         "pyramidkv:rule=factory", "adakv:rule=factory",
                                         "adakv:rule=factory,normalize=0", "segments:segment=16",
                                         "tova_head:heads=mean"),
                         testing_support::LabelOfParam{});

TEST(FullScheduler, NeverEvicts) {
  EXPECT_FALSE(make_policy("scheduler", scheduling::schedulers(), "full")->evicts());
}

}  // namespace
}  // namespace pikv
