// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Schedulers that go by what slots were used for, step by step against plain references.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <set>

#include "scheduling/tables.hpp"
#include "tests/scheduling/attention_trace.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

// H2O as its paper has it: sums of attention, half of the budget for the newest, one slot a step.
TEST(H2O, EvictsStepByStepWhatTheGreedyReferenceEvicts) {
  constexpr std::int64_t kTokens = 160;
  constexpr std::int64_t kBudget = 33;
  Random random(301);
  for (const std::int64_t group : {1, 4}) {
    const std::int64_t num_kv_heads = 2;
    const std::int64_t num_heads = num_kv_heads * group;
    AttentionTrace trace(random.normals(num_heads * kTokens * 16, 2.0f),
                         random.normals(num_kv_heads * kTokens * 16), num_heads, num_kv_heads,
                         kTokens);
    const auto scheduler =
        make_policy("scheduler", scheduling::schedulers(), "h2o:when=decode,every=1");
    std::vector<std::map<Position, double>> sums(2);  // the reference's own, of what it keeps
    const auto add = [&](Position t) {
      for (std::size_t h = 0; h < 2; ++h) {
        const std::vector<double> weights = trace.weights(h, t);
        for (std::size_t i = 0; i < weights.size(); ++i) {
          sums[h][trace.slots(h)[i].position] += weights[i];
        }
      }
    };
    const auto evict = [&](Position t) {
      for (std::size_t h = 0; h < 2; ++h) {
        if (static_cast<std::int64_t>(sums[h].size()) > kBudget) {
          const Position recent = t + 1 - static_cast<Position>(kBudget / 2);
          auto least = sums[h].begin();
          for (auto it = sums[h].begin(); it != sums[h].end() && it->first < recent; ++it) {
            if (it->second < least->second) least = it;
          }
          sums[h].erase(least);
        }
        ASSERT_EQ(trace.slots(h).size(), sums[h].size());
        for (const AttentionTrace::Slot& slot : trace.slots(h)) {
          ASSERT_TRUE(sums[h].contains(slot.position)) << "step " << t << ", " << slot.position;
        }
      }
    };
    trace.run(*scheduler, {.slots = kBudget}, 0, kTokens, add, evict);
  }
}

std::vector<Position> range(std::initializer_list<std::pair<Position, Position>> runs) {
  std::vector<Position> result;
  for (const auto& [first, last] : runs) {
    for (Position p = first; p <= last; ++p) result.push_back(p);
  }
  return result;
}

// Published sets on made-up numbers (40 tokens, four query heads, two KV heads, 8 channels):
// kvpress' ObservedAttention, and H2O as KVCache-Factory has it, with a window of 4.
TEST(AccumulatedAttention, KeepsThePublishedPositions) {
  struct Case {
    std::string scheduler;
    std::vector<Position> heads[2];
  };
  const std::vector<Case> cases = {
      {"observed_attention",
       {range({{0, 14}, {16, 17}, {19, 19}, {21, 22}}),
        range({{0, 11}, {13, 15}, {20, 20}, {25, 25}, {27, 27}, {36, 37}})}},
      {"h2o:recent=0.2,when=prefill",
       {range({{0, 14}, {17, 17}, {36, 39}}), range({{0, 15}, {36, 39}})}}};
  for (const Case& c : cases) {
    AttentionTrace trace = golden_numbers(1, 40);
    trace.run(*make_policy("scheduler", scheduling::schedulers(), c.scheduler), {.slots = 20}, 40,
              40);
    for (const std::size_t h : {0u, 1u}) {
      std::vector<Position> kept;
      for (const AttentionTrace::Slot& slot : trace.slots(h)) kept.push_back(slot.position);
      EXPECT_EQ(kept, c.heads[h]) << c.scheduler << ", head " << h;
    }
  }
}

/// A cache of items that a trace asks for: an item that is there is used, another one is written.
class ItemCache {
 public:
  ItemCache(const std::string& scheduler, std::int64_t capacity)
      : scheduler_(make_policy("scheduler", scheduling::schedulers(), scheduler)),
        capacity_(capacity) {}

  /// True on a hit.
  bool ask(int item) {
    const auto now = static_cast<Position>(num_asked_++);
    if (const auto found = places_.find(item); found != places_.end()) {
      Entry& entry = found->second;
      entry.last_use = static_cast<float>(now);
      entry.num_uses += 1;
      return true;
    }
    places_[item] = {.written = now, .last_use = static_cast<float>(now), .num_uses = 1};
    if (static_cast<std::int64_t>(places_.size()) > capacity_) evict();
    return false;
  }
  [[nodiscard]] std::set<int> items() const {
    std::set<int> result;
    for (const auto& [item, entry] : places_) result.insert(item);
    return result;
  }

 private:
  struct Entry {
    Position written;
    float last_use;
    float num_uses;
  };

  void evict() {
    Exec exec = Exec::cpu(1);
    const AttentionColumns kinds = scheduler_->needs().columns;
    std::vector<int> items;
    std::vector<Position> positions;
    std::vector<float> columns;
    for (const auto& [item, entry] : places_) {
      items.push_back(item);
      positions.push_back(entry.written);
      columns.insert(columns.end(), {entry.last_use, entry.num_uses});
    }
    ASSERT_EQ(kinds, AttentionColumns(AttentionColumn::kLastUse, AttentionColumn::kNumUses));
    const auto n = static_cast<std::int64_t>(items.size());
    const HeadSlots head{
        .positions = positions, .keys = {}, .values = {}, .columns = {columns.data(), {n, 2}}};
    std::vector<std::vector<float>> scores(1, std::vector<float>(items.size()));
    const KvBudget budget{.slots = capacity_};
    const auto next = static_cast<Position>(num_asked_);
    scheduler_->score(exec,
                      {.sequence = SequenceId{0},
                       .layer = LayerId{0},
                       .next_position = next,
                       .num_context = 0,
                       .heads = {&head, 1},
                       .budget = budget,
                       .columns = kinds},
                      scores);
    SequenceScores all{.sequence = SequenceId{0},
                       .next_position = next,
                       .num_context = 0,
                       .num_kv_heads = 1,
                       .heads = {{positions, scores[0]}}};
    std::vector<std::vector<std::int32_t>> evict(1);
    scheduler_->select(all, budget, evict);
    ASSERT_EQ(evict[0].size(), 1u);
    places_.erase(items[static_cast<std::size_t>(evict[0][0])]);
  }

  std::unique_ptr<const Scheduler> scheduler_;
  std::int64_t capacity_;
  std::int64_t num_asked_ = 0;
  std::map<int, Entry> places_;
};

/// Popular items by Zipf's law, and now and then a scan over items that are never asked for again.
std::vector<int> zipf_and_scan(Random& random, int length) {
  std::vector<double> cumulative;
  double total = 0;
  for (int i = 1; i <= 200; ++i) cumulative.push_back(total += 1.0 / i);
  std::vector<int> trace;
  int fresh = 1000;
  while (static_cast<int>(trace.size()) < length) {
    if (random.integer(0, 149) == 0) {
      for (int i = 0; i < 60; ++i) trace.push_back(fresh++);
    }
    const double u = static_cast<double>(random.integer(0, 1 << 30)) / (1 << 30) * total;
    trace.push_back(static_cast<int>(std::ranges::lower_bound(cumulative, u) - cumulative.begin()));
  }
  return trace;
}

TEST(Lru, EqualsTheListThatMovesToTheFront) {
  Random random(302);
  for (const std::string scheduler : {"lru", "lru_plus:lambda=0"}) {
    for (const int capacity : {1, 7, 40}) {
      ItemCache cache(scheduler, capacity);
      std::list<int> reference;
      for (const int item : zipf_and_scan(random, 1500)) {
        const bool hit = cache.ask(item);
        const auto found = std::ranges::find(reference, item);
        ASSERT_EQ(hit, found != reference.end());
        if (hit) reference.erase(found);
        reference.push_front(item);
        if (static_cast<int>(reference.size()) > capacity) reference.pop_back();
        ASSERT_EQ(cache.items(), std::set<int>(reference.begin(), reference.end()));
      }
    }
  }
}

double hit_rate(const std::string& scheduler, const std::vector<int>& trace) {
  ItemCache cache(scheduler, 40);
  const auto hits = std::ranges::count_if(trace, [&](int item) { return cache.ask(item); });
  return static_cast<double>(hits) / static_cast<double>(trace.size());
}

TEST(LruPlus, BeatsLruWhereScansPassByPopularItems) {
  Random random(303);
  const std::vector<int> trace = zipf_and_scan(random, 6000);
  EXPECT_GT(hit_rate("lru_plus", trace), hit_rate("lru", trace) + 0.02);
}

TEST(Lfu, KeepsWhatIsPopular) {
  Random random(304);
  const std::vector<int> trace = zipf_and_scan(random, 6000);
  ItemCache cache("lfu:recent=0", 40);
  for (const int item : trace) (void)cache.ask(item);
  int popular = 0;
  for (const int item : cache.items()) popular += item < 40 ? 1 : 0;
  EXPECT_GE(popular, 25) << "of the forty most popular";
}

}  // namespace
}  // namespace pikv
