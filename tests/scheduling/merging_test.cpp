// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What is merged into what, by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "core/base/random.hpp"
#include "kernels/common/error.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

struct Term {
  Position to;
  Position from;
  float weight;
  [[nodiscard]] bool operator==(const Term&) const = default;
};
void PrintTo(const Term& term, std::ostream* out) {
  *out << term.weight << " of " << term.from << " to " << term.to;
}

/// One head of one layer; slot i is at position i unless said.
struct Case {
  std::vector<float> scores = {};
  std::vector<std::vector<float>> keys = {};
  std::vector<std::vector<float>> values = {};
  std::vector<std::int32_t> evict = {};
  std::vector<Position> positions = {};
  std::int64_t num_context = 10;
  std::size_t layer = 0;
  std::size_t head = 0;  // the heads before it are empty

  [[nodiscard]] std::vector<Term> merged(const std::string& spec) const {
    const auto scheduler = make_policy("scheduler", scheduling::schedulers(), spec);
    std::vector<HeadScores> heads(head + 1);
    heads[head] = {positions, scores};
    const std::size_t n = std::max(scores.size(), keys.size());
    heads[head].scores.resize(n);
    for (std::size_t i = positions.size(); i < n; ++i) {
      heads[head].positions.push_back(static_cast<Position>(i));
    }
    std::vector<std::vector<std::int32_t>> evicts(head + 1);
    evicts[head] = evict;
    const std::vector<float> key_rows = rows(keys);
    const std::vector<float> value_rows = rows(values);
    std::vector<View<const float, 2>> key_views(head + 1), value_views(head + 1);
    key_views[head] = {key_rows.data(), {static_cast<std::int64_t>(keys.size()), 2}};
    value_views[head] = {value_rows.data(), {static_cast<std::int64_t>(values.size()), 2}};
    std::vector<std::vector<ValueTerm>> terms(head + 1);
    Exec exec = Exec::cpu(1);
    scheduler->merge(exec,
                     {.sequence = SequenceId{0},
                      .layer = id_from<LayerId>(layer),
                      .next_position = 20,
                      .num_context = num_context,
                      .heads = heads,
                      .evict = evicts,
                      .keys = key_views,
                      .values = value_views},
                     terms);
    std::vector<Term> result;
    for (const ValueTerm& term : terms[head]) {
      result.push_back({heads[head].positions[static_cast<std::size_t>(term.to)],
                        heads[head].positions[static_cast<std::size_t>(term.from)], term.weight});
    }
    std::ranges::sort(result, {}, [](const Term& t) { return std::tuple(t.to, t.from); });
    return result;
  }

 private:
  [[nodiscard]] static std::vector<float> rows(const std::vector<std::vector<float>>& from) {
    std::vector<float> result;
    for (const auto& row : from) result.insert(result.end(), row.begin(), row.end());
    return result;
  }
};

TEST(Cam, AValueIsSpreadOverTheWindowAfterIt) {
  Case c{.scores = {9, 9, 5, 1, 2, 3, 9, 9, 9, 9}, .evict = {2}};
  const std::vector<Term> expected = {{3, 2, 1 / 3.0f}, {4, 2, 1 / 3.0f}, {5, 2, 1 / 3.0f}};
  EXPECT_EQ(c.merged("cam:window=3"), expected) << "5 of a mean of 2: for sure";
  c.evict = {2, 4};
  EXPECT_EQ(c.merged("cam:window=2"), (std::vector<Term>{{3, 2, 0.5f}, {5, 2, 0.5f}}))
      << "what goes itself takes nothing, and the better of two is merged";
  // Only two are left.
  c.evict = {7};
  EXPECT_EQ(c.merged("cam:window=3"), (std::vector<Term>{{8, 7, 0.5f}, {9, 7, 0.5f}}));
  c.evict = {9};
  EXPECT_TRUE(c.merged("cam:window=3").empty()) << "nothing comes after it";
}

TEST(Cam, SlotsMayLieInAnyOrder) {
  const Case c{.scores = {3, 9, 5, 2, 9, 1}, .evict = {2}, .positions = {15, 0, 7, 12, 19, 8}};
  EXPECT_EQ(c.merged("cam:window=3"),
            (std::vector<Term>{{8, 7, 1 / 3.0f}, {12, 7, 1 / 3.0f}, {15, 7, 1 / 3.0f}}));
}

TEST(Cam, TheChanceIsTheAttentionOverTheMeanOfTheWindow) {
  // 1.5 over a mean of 2; draws are named by seed, layer, head and position.
  int num_merged = 0;
  constexpr int kSeeds = 2000;
  for (int seed = 0; seed < kSeeds; ++seed) {
    Case c{.scores = {0, 0, 0, 1.5f, 1, 2, 3}, .evict = {3}};
    c.layer = static_cast<std::size_t>(seed % 3);
    c.head = static_cast<std::size_t>(seed % 2);
    const bool merges = !c.merged("cam:window=3,seed=" + std::to_string(seed)).empty();
    const double draw =
        random_uniform(static_cast<std::uint64_t>(seed), (c.layer << 32) + c.head, 3);
    EXPECT_EQ(merges, draw < 0.75) << "seed " << seed;
    num_merged += merges ? 1 : 0;
  }
  EXPECT_NEAR(num_merged, 0.75 * kSeeds, 4 * std::sqrt(0.75 * 0.25 * kSeeds));
}

TEST(Cam, NothingReceivedIsNothingGiven) {
  for (int seed = 0; seed < 50; ++seed) {
    const std::string spec = "cam:window=2,seed=" + std::to_string(seed);
    EXPECT_TRUE((Case{.scores = {0, 1, 1}, .evict = {0}}.merged(spec).empty()));
    EXPECT_TRUE((Case{.scores = {0, 0, 0}, .evict = {0}}.merged(spec).empty()));
    EXPECT_EQ((Case{.scores = {1e-9f, 0, 0}, .evict = {0}}.merged(spec).size()), 2u);
  }
}

TEST(Cam, OnlyAsManyAreMergedAsTokensWereGenerated) {
  Case c{.scores = {9, 4, 7, 7, 5, 1, 1, 1, 1, 1}, .evict = {0, 1, 2, 3, 4}};
  const auto givers = [&](const std::string& spec) {
    std::vector<Position> result;
    for (const Term& term : c.merged(spec)) {
      if (term.to == 5) result.push_back(term.from);
    }
    return result;
  };
  EXPECT_EQ(givers("cam"), std::vector<Position>{0});
  EXPECT_EQ(givers("cam:every=2"), (std::vector<Position>{0, 3})) << "of equal ones the newest";
  EXPECT_EQ(givers("cam:every=64"), (std::vector<Position>{0, 1, 2, 3, 4}));
  c.num_context = 20;
  EXPECT_TRUE(givers("cam:every=64").empty()) << "what goes at the end of the context is dropped";
}

TEST(Cam, TriggersThatNeverMergeAreRefused) {
  for (const std::string spec : {"cam:when=prefill", "cam:when=stride", "cam:window=0"}) {
    EXPECT_THROW((void)make_policy("scheduler", scheduling::schedulers(), spec), InvalidArgument)
        << spec;
  }
}

// Neighbours by hand: unit keys, so that similarities are products.
TEST(Merging, AValueIsFoldedIntoThatOfTheNearestKey) {
  const Case c{.keys = {{1, 0}, {0, 2}, {0.6f, 0.8f}, {-3, 0}},
               .values = {{4, 3}, {0, 1}, {0, 10}, {5, 0}},
               .evict = {2, 3}};
  // Slot 2 is nearest to slot 1 (0.8), w = 0.8 * 10 / 11; slot 3 to slot 1 (0), which gives
  // nothing.
  const float w = 0.8f * 10 / 11;
  const std::vector<Term> terms = c.merged("merging");
  ASSERT_EQ(terms.size(), 2u);
  EXPECT_EQ(terms[0].to, 1);
  EXPECT_EQ(terms[0].from, 1);
  EXPECT_NEAR(terms[0].weight, 1 / (1 + w), 1e-6f);
  EXPECT_EQ(terms[1].to, 1);
  EXPECT_EQ(terms[1].from, 2);
  EXPECT_NEAR(terms[1].weight, w / (1 + w), 1e-6f);
}

TEST(Merging, OfEquallyNearKeysTheOldestTakesTheValue) {
  const Case c{.keys = {{1, 0}, {1, 0}, {2, 0}},
               .values = {{1, 0}, {1, 0}, {1, 0}},
               .evict = {1},
               .positions = {9, 4, 3}};
  const std::vector<Term> terms = c.merged("merging");
  ASSERT_EQ(terms.size(), 2u);
  EXPECT_EQ(terms[0].to, 3);
  EXPECT_NEAR(terms[0].weight, 2 / 3.0f, 1e-6f);
  EXPECT_EQ(terms[1].from, 4);
}

TEST(Merging, ThresholdAndFractionPickTheMostSimilar) {
  // Similarities 0.6, 0.8, 1, 0.28, 0.96 with slot 0.
  const Case c{.keys = {{1, 0}, {0.6f, 0.8f}, {0.8f, 0.6f}, {1, 0}, {0.28f, 0.96f}, {0.96f, 0.28f}},
               .values = {{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}},
               .evict = {1, 2, 3, 4, 5}};
  const auto givers = [&](const std::string& spec) {
    std::vector<Position> result;
    for (const Term& term : c.merged(spec)) {
      if (term.from != 0) result.push_back(term.from);
    }
    return result;
  };
  EXPECT_EQ(givers("merging"), (std::vector<Position>{1, 2, 3, 4, 5}));
  EXPECT_EQ(givers("merging:threshold=0.7"), (std::vector<Position>{2, 3, 5}));
  EXPECT_EQ(givers("merging:fraction=0.5"), (std::vector<Position>{2, 3, 5})) << "the median too";
  EXPECT_EQ(givers("merging:fraction=0.75"), (std::vector<Position>{1, 2, 3, 5}));
  EXPECT_EQ(givers("merging:fraction=0.01"), std::vector<Position>{3});
  EXPECT_EQ(givers("merging:fraction=0.5,threshold=0.9"), (std::vector<Position>{3, 5}));
}

TEST(Merging, ZerosGiveNothingAndBreakNothing) {
  const Case c{.keys = {{1, 0}, {0, 0}, {2, 0}, {3, 0}},
               .values = {{0, 0}, {1, 1}, {0, 0}, {1, 0}},
               .evict = {1, 2, 3}};
  // A key of zeros resembles none, a value of zeros adds none; a value takes the place of zeros.
  EXPECT_EQ(c.merged("merging"), (std::vector<Term>{{0, 0, 0.5f}, {0, 3, 0.5f}}));
}

/// The definition, slot by slot, in double precision.
TEST(Merging, ManySlotsGiveWhatTheDefinitionSays) {
  Random random(311);
  constexpr std::int32_t kSlots = 700;  // more go than one block of similarities has
  Case c;
  for (std::int32_t i = 0; i < kSlots; ++i) {
    c.keys.push_back(random.normals(2));
    c.values.push_back(random.normals(2));
    if (random.integer(0, 9) != 0) c.evict.push_back(i);
  }
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
    return static_cast<double>(a[0]) * static_cast<double>(b[0]) +
           static_cast<double>(a[1]) * static_cast<double>(b[1]);
  };
  const auto norm = [&](const std::vector<float>& a) { return std::sqrt(dot(a, a)); };
  const auto at = [](const auto& rows, Position p) -> const auto& {
    return rows[static_cast<std::size_t>(p)];
  };
  const auto cosine = [&](Position a, Position b) {
    return dot(at(c.keys, a), at(c.keys, b)) / (norm(at(c.keys, a)) * norm(at(c.keys, b)));
  };
  std::vector<double> sums(kSlots, 1.0);
  std::size_t num_given = 0;
  const std::vector<Term> terms = c.merged("merging");
  const auto weight = [&](const Term& term) {
    const double given = norm(at(c.values, term.from));
    return cosine(term.from, term.to) * given / (given + norm(at(c.values, term.to)));
  };
  for (const Term& term : terms) {
    if (term.from == term.to) continue;
    ++num_given;
    sums[static_cast<std::size_t>(term.to)] += weight(term);
    for (Position other = 0; other < kSlots; ++other) {
      if (std::ranges::binary_search(c.evict, other)) continue;
      EXPECT_LE(cosine(term.from, other), cosine(term.from, term.to) + 1e-6);
    }
  }
  EXPECT_EQ(num_given, c.evict.size()) << "in two dimensions everyone has a neighbour";
  for (const Term& term : terms) {
    EXPECT_NEAR(static_cast<double>(term.weight),
                (term.from == term.to ? 1 : weight(term)) / sums[static_cast<std::size_t>(term.to)],
                1e-5);
  }
}

TEST(Merging, OptionsOutOfRangeAreRefused) {
  for (const std::string spec : {"merging:fraction=0", "merging:fraction=1.5",
                                 "merging:threshold=-1", "merging:scorer=merging"}) {
    EXPECT_THROW((void)make_policy("scheduler", scheduling::schedulers(), spec), InvalidArgument)
        << spec;
  }
}

}  // namespace
}  // namespace pikv
