// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Budgets over layers and heads, worked out by hand: a model of two layers and two KV heads.
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"
#include "scheduling/allocators/makers.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::scheduling {
namespace {

using Counts = std::vector<std::int64_t>;
using Scores = std::vector<std::vector<float>>;

constexpr std::int64_t kKvHeads = 2;

/// Heads of positions 0, 1, 2, .. with the scores given.
SequenceScores sequence(const Scores& scores) {
  SequenceScores result{.sequence = SequenceId{1},
                        .next_position = 0,
                        .num_context = 0,
                        .num_kv_heads = kKvHeads,
                        .heads = {}};
  for (const std::vector<float>& head : scores) {
    HeadScores& to = result.heads.emplace_back();
    to.scores = head;
    to.positions.resize(head.size());
    std::iota(to.positions.begin(), to.positions.end(), Position{0});
    result.next_position = std::max(result.next_position, static_cast<Position>(head.size()));
  }
  return result;
}

SequenceScores equal_heads(std::size_t size) {
  return sequence(Scores(4, std::vector<float>(size, 1.0f)));
}

Counts counts_of(const Allocator& allocator, const SequenceScores& scores, const KvBudget& budget,
                 const Protection& protection = {}) {
  Counts counts(scores.heads.size(), -1);
  allocator.allocate(scores, budget, protection, counts);
  return counts;
}

KvBudget fraction(double f) { return {.fraction = f}; }
KvBudget slots(std::int64_t n) { return {.slots = n}; }

HeadTable table(std::vector<double> values) { return {"table", 2, 2, std::move(values)}; }

TEST(GlobalAllocator, TakesTheBestOfAllHeads) {
  const SequenceScores scores =
      sequence({{9, 8, 7, 6}, {5, 4, 3, 2}, {8.5, 1, 1, 1}, {1, 1, 1, 7.5}});
  EXPECT_EQ(counts_of(*make_global_allocator(), scores, slots(2)), (Counts{4, 2, 1, 1}));
  EXPECT_EQ(counts_of(*make_global_allocator(), scores, slots(1)), (Counts{1, 1, 1, 1}))
      << "each head keeps one";
}

TEST(GlobalAllocator, BreaksTiesByLayerHeadAndPosition) {
  EXPECT_EQ(counts_of(*make_global_allocator(), equal_heads(6), slots(3)), (Counts{6, 4, 1, 1}));
}

TEST(GlobalAllocator, KeepsWhatIsProtectedAsFarAsTheBudgetGoes) {
  const SequenceScores scores =
      sequence({{9, 9, 9, 9, 9, 9}, {0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}});
  const Protection ends{.sinks = 1, .recents = 1};
  EXPECT_EQ(counts_of(*make_global_allocator(), scores, slots(3), ends), (Counts{6, 2, 2, 2}));
  EXPECT_EQ(counts_of(*make_global_allocator(), scores, slots(1), ends), (Counts{1, 1, 1, 1}));
}

TEST(WholeHeadAllocator, HeadsOfTheLeastBestScoreGoDownToTheirEnds) {
  const SequenceScores scores = sequence(
      {{0, 0, 0, 0, 0, 0.9}, {0.5, 0.5, 0.5, 0.5, 0.5, 0.5}, {0, 0, 0, 0, 0, 0.7}, {0, 0, 1, 0}});
  EXPECT_EQ(counts_of(*make_whole_head_allocator(2), scores, slots(6)), (Counts{6, 6, 6, 4}));
  // 24 slots at most, so 22 of them are all; 16: the second head gives four and the third two.
  EXPECT_EQ(counts_of(*make_whole_head_allocator(2), scores, slots(4)), (Counts{6, 2, 4, 4}));
  EXPECT_EQ(counts_of(*make_whole_head_allocator(2), scores, slots(2)), (Counts{2, 2, 2, 2}));
  EXPECT_EQ(counts_of(*make_whole_head_allocator(2), scores, slots(1)), (Counts{1, 1, 1, 1}));
}

TEST(HeadKvAllocator, SharesThePoolByImportance) {
  const SequenceScores scores = equal_heads(100);
  // 1 is kept of 21 and half of the rest given: a pool of 40.
  EXPECT_EQ(counts_of(*make_headkv_allocator(table({1, 2, 3, 4}), 2), scores, slots(21)),
            (Counts{15, 19, 23, 27}));
  EXPECT_EQ(counts_of(*make_headkv_allocator(table({0, 0, 0, 1}), 1), scores, slots(21)),
            (Counts{1, 1, 1, 81}));
  EXPECT_EQ(counts_of(*make_headkv_allocator(table({0, 0, 0, 1}), 1), scores, slots(41)),
            (Counts{22, 21, 21, 100}))
      << "what the important head cannot take goes to the others";
}

TEST(HeadKvAllocator, GivesNothingOfWhatIsProtected) {
  EXPECT_EQ(counts_of(*make_headkv_allocator(table({1, 0, 0, 0}), 1), equal_heads(100), slots(10),
                      {.sinks = 2, .recents = 3}),
            (Counts{25, 5, 5, 5}));
}

TEST(HeadKvAllocator, WithoutATableSharesEqually) {
  EXPECT_EQ(counts_of(*make_headkv_allocator(std::nullopt, 1.5), equal_heads(100), slots(13)),
            (Counts{13, 13, 13, 13}));
}

TEST(LookupAllocator, KeepsTheFractionsOfTheTable) {
  const SequenceScores scores = equal_heads(10);
  EXPECT_EQ(counts_of(*make_lookup_allocator(table({0, 0.26, 0.5, 1})), scores, fraction(1)),
            (Counts{1, 3, 5, 10}));
}

TEST(LookupAllocator, ShrinksInProportionUnderTheBudget) {
  const Counts counts = counts_of(*make_lookup_allocator(table({0.5, 0.5, 0.5, 1})),
                                  equal_heads(100), fraction(0.25));
  EXPECT_EQ(counts, (Counts{20, 20, 20, 40}));
  EXPECT_EQ(counts_of(*make_lookup_allocator(table({0.1, 0.1, 0.1, 0.1})), equal_heads(100),
                      fraction(0.25)),
            (Counts{10, 10, 10, 10}))
      << "a budget is a ceiling, not a target";
}

TEST(DuoAllocator, KeepsTheEndsOfTheHeadsOfLowestScore) {
  const auto half = make_duo_allocator(table({0.9, 0.1, 0.2, 0.8}), 0.5, 5);
  EXPECT_EQ(counts_of(*half, equal_heads(20), fraction(1)), (Counts{20, 5, 5, 20}));
  EXPECT_EQ(counts_of(*half, equal_heads(3), fraction(1)), (Counts{3, 3, 3, 3}));
}

TEST(DuoAllocator, SendsMoreHeadsToTheirEndsUntilTheBudgetHolds) {
  const HeadTable scores = table({0.9, 0.1, 0.2, 0.8});
  const auto by_budget = make_duo_allocator(scores, 0, 5);
  EXPECT_EQ(counts_of(*by_budget, equal_heads(20), slots(18)), (Counts{20, 12, 20, 20}));
  EXPECT_EQ(counts_of(*by_budget, equal_heads(20), slots(11)), (Counts{20, 5, 5, 14}));
  EXPECT_EQ(counts_of(*by_budget, equal_heads(20), slots(5)), (Counts{5, 5, 5, 5}));
  EXPECT_EQ(counts_of(*by_budget, equal_heads(20), slots(2)), (Counts{2, 2, 2, 2}));
  const auto half = make_duo_allocator(scores, 0.5, 5);
  EXPECT_EQ(counts_of(*half, equal_heads(20), slots(11)), (Counts{20, 5, 5, 14}));
  EXPECT_EQ(counts_of(*half, equal_heads(20), slots(18)), (Counts{20, 5, 5, 20}));
}

TEST(DuoAllocator, HeadsOfEqualScoreGoDownTogether) {
  EXPECT_EQ(counts_of(*make_duo_allocator(table({1, 0, 0, 0}), 0, 5), equal_heads(20), slots(11)),
            (Counts{20, 8, 8, 8}));
  EXPECT_EQ(counts_of(*make_duo_allocator(std::nullopt, 0, 5), equal_heads(20), slots(11)),
            (Counts{11, 11, 11, 11}));
}

/// Attention of the newest query: the first layer looks at the ends (0.9), the second elsewhere.
SequenceScores two_layers() {
  std::vector<float> lazy(20, 0.0f), busy(20, 0.0f);
  lazy[0] = lazy[18] = 0.45f;
  lazy[19] = busy[19] = 0.1f;  // the newest position itself does not count
  busy[0] = 0.2f;
  busy[10] = 0.7f;
  return sequence({lazy, lazy, busy, busy});
}

TEST(LazyLayerAllocator, KeepsTheEndsOfLayersThatLookAtThemAlone) {
  EXPECT_EQ(counts_of(*make_lazy_layer_allocator(0.89, 2, 4), two_layers(), fraction(1)),
            (Counts{6, 6, 20, 20}));
  EXPECT_EQ(counts_of(*make_lazy_layer_allocator(0.91, 2, 4), two_layers(), fraction(1)),
            (Counts{20, 20, 20, 20}));
  EXPECT_EQ(counts_of(*make_lazy_layer_allocator(0.19, 2, 4), two_layers(), fraction(1)),
            (Counts{6, 6, 6, 6}));
}

TEST(LazyLayerAllocator, MakesTheLaziestLayersFitTheBudget) {
  EXPECT_EQ(counts_of(*make_lazy_layer_allocator(1, 2, 4), two_layers(), slots(15)),
            (Counts{10, 10, 20, 20}));
  EXPECT_EQ(counts_of(*make_lazy_layer_allocator(1, 2, 4), two_layers(), slots(10)),
            (Counts{6, 6, 14, 14}));
}

TEST(FirstLayersAllocator, KeepsTheFirstWholeAsLongAsTheBudgetHolds) {
  const auto first = make_first_layers_allocator(1);
  EXPECT_EQ(counts_of(*first, equal_heads(20), fraction(1)), (Counts{20, 20, 20, 20}));
  EXPECT_EQ(counts_of(*first, equal_heads(20), slots(15)), (Counts{20, 20, 10, 10}));
  EXPECT_EQ(counts_of(*first, equal_heads(20), slots(10)), (Counts{19, 19, 1, 1}));
  EXPECT_EQ(counts_of(*first, equal_heads(20), slots(10), {.sinks = 2, .recents = 3}),
            (Counts{15, 15, 5, 5}));
  EXPECT_EQ(counts_of(*make_first_layers_allocator(9), equal_heads(20), slots(15)),
            (Counts{15, 15, 15, 15}));
}

TEST(LayerSelector, LaterLayersGoByWhatTheLastOfTheFirstIsWorth) {
  // Positions 0 to 3; the mean of the first layer's heads is 5, 1, 4, 2.
  const SequenceScores scores = sequence({{10, 0, 4, 4}, {0, 2, 4, 0}, {0, 9, 0, 9}, {9, 9, 9, 0}});
  std::vector<std::vector<std::int32_t>> evict(4);
  make_layer_selector(1)->select(scores, {}, Counts{3, 4, 2, 1}, evict);
  EXPECT_EQ(evict[0], (std::vector<std::int32_t>{1})) << "by its own scores";
  EXPECT_EQ(evict[1], (std::vector<std::int32_t>{}));
  EXPECT_EQ(evict[2], (std::vector<std::int32_t>{1, 3}));
  EXPECT_EQ(evict[3], (std::vector<std::int32_t>{1, 2, 3}));
  make_layer_selector(1)->select(scores, {.sinks = 0, .recents = 1}, Counts{4, 4, 2, 1}, evict);
  EXPECT_EQ(evict[2], (std::vector<std::int32_t>{1, 2})) << "what is protected comes first";
}

TEST(TablesOfHeads, AreReadFromTheOptionFile) {
  const testing_support::TempFolder folder;
  const std::string file = folder.write("heads.tsv", "0.9 0.1\n0.2 0.8\n").string();
  const SequenceScores scores = equal_heads(20);
  const auto sizes = [&](const std::string& spec, const KvBudget& budget) {
    std::vector<std::vector<std::int32_t>> evict(4);
    make_policy("scheduler", schedulers(), spec)->select(scores, budget, evict);
    Counts counts;
    for (const auto& head : evict) counts.push_back(20 - static_cast<std::int64_t>(head.size()));
    return counts;
  };
  EXPECT_EQ(sizes("duo_attention:sinks=2,recents=3,sparsity=0.5,file=" + file, fraction(1)),
            (Counts{20, 5, 5, 20}));
  EXPECT_EQ(sizes("lookup:scorer=recency,file=" + file, fraction(1)), (Counts{18, 2, 4, 16}));
  EXPECT_EQ(sizes("headkv:scorer=recency,beta=1,file=" + file, slots(6)), (Counts{10, 2, 3, 9}));
  EXPECT_THROW((void)make_policy("scheduler", schedulers(), "lookup:file=/no/such/file"), BadFile);
  EXPECT_THROW((void)make_policy("scheduler", schedulers(), "duo_attention:sparsity=0.5"),
               InvalidArgument);
}

TEST(TablesOfHeads, OfAnotherModelAreRefusedBeforeTheFirstToken) {
  const testing_support::TempFolder folder;
  const auto comm = make_single_communicator();
  launch::RuntimeOptions options;
  options.model = std::filesystem::path(PIKV_MODELS_DIR) / "tiny-moe";
  options.num_threads = 1;
  const std::string file = folder.write("heads.tsv", "0.9 0.1\n0.2 0.8\n").string();
  for (const char* name : {"headkv", "lookup", "duo_attention"}) {
    options.scheduler = std::string(name).append(":file=").append(file);
    try {
      const launch::Runtime runtime(*comm, options);
      ADD_FAILURE() << name << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(),
                file + ": a table of 2 layers x 2 heads, but the model has 6 layers x 2 KV heads");
    }
    options.scheduler = std::string(name).append(":file=").append(options.model / "kv_heads.tsv");
    EXPECT_NO_THROW(launch::Runtime(*comm, options)) << name;
  }
}

}  // namespace
}  // namespace pikv::scheduling
