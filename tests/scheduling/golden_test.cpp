// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Kept positions that the reference implementations (kvpress, KVCache-Factory) give on one layer of
// made-up numbers: four query heads, two KV heads, 40 tokens of 8 channels, hidden size 16.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>
#include <sstream>

#include "kernels/kv_page.hpp"
#include "scheduling/tables.hpp"

namespace pikv {
namespace {

constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kLength = 40;
constexpr std::int64_t kDim = 8;
constexpr std::int64_t kHidden = 16;

struct Case {
  std::string name;
  std::string scheduler;
  double fraction;
  std::string kept[kKvHeads];  // "2-4 7" is 2 3 4 7
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<std::int32_t> parse(const std::string& text) {
  std::vector<std::int32_t> result;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t dash = word.find('-');
    const int first = std::stoi(word.substr(0, dash));
    const int last = dash == std::string::npos ? first : std::stoi(word.substr(dash + 1));
    for (int i = first; i <= last; ++i) result.push_back(i);
  }
  return result;
}

/// The numbers: a linear congruential generator, q and k and v and W_o in this order.
class Numbers {
 public:
  Numbers() {
    const std::vector<float> q = draw(kHeads * kLength * kDim, 2.0);
    const std::vector<float> k = draw(kKvHeads * kLength * kDim, 1.0);
    values_ = draw(kKvHeads * kLength * kDim, 1.0);
    const std::vector<float> wo = draw(kHidden * kHeads * kDim, 1.0);
    keys_ = k;
    for (std::int64_t t = 0; t < kLength; ++t) {
      positions_.push_back(static_cast<Position>(t));
      for (std::int64_t h = 0; h < kHeads; ++h) {
        const auto begin = q.begin() + (h * kLength + t) * kDim;
        queries_.insert(queries_.end(), begin, begin + kDim);
      }
    }
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t row = 0; row < kHidden; ++row) {
        const auto begin = wo.begin() + row * kHeads * kDim + h * kDim;
        projection_.insert(projection_.end(), begin, begin + kDim);
      }
    }
    for (std::int64_t d = 0; d < kDim / 2; ++d) {
      frequencies_.push_back(
          static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(d) / kDim)));
    }
    add_moments();
  }

  [[nodiscard]] const float* key(std::int64_t head, std::int64_t token) const {
    return keys_.data() + (head * kLength + token) * kDim;
  }
  [[nodiscard]] const std::vector<float>& frequencies() const { return frequencies_; }

  /// Scores of a model whose layers are all alike.
  [[nodiscard]] SequenceScores score(const Scheduler& scheduler, const KvBudget& budget,
                                     std::int64_t num_layers = 1) const {
    Exec exec = Exec::cpu(1);
    std::vector<HeadSlots> heads;
    std::vector<std::vector<float>> scores;
    for (std::int64_t h = 0; h < kKvHeads; ++h) {
      heads.push_back({.positions = positions_,
                       .keys = {keys_.data() + h * kLength * kDim, {kLength, kDim}},
                       .values = {values_.data() + h * kLength * kDim, {kLength, kDim}},
                       .columns = {}});
      scores.emplace_back(static_cast<std::size_t>(kLength));
    }
    const std::int64_t rows = std::min(kLength, scheduler.needs().query_rows);
    scheduler.score(
        exec,
        {.sequence = SequenceId{0},
         .layer = LayerId{0},
         .next_position = kLength,
         .num_context = kLength,
         .heads = heads,
         .budget = budget,
         .inverse_frequencies = frequencies_,
         .queries = {queries_.data() + (kLength - rows) * kHeads * kDim, {rows, kHeads, kDim}},
         .query_positions = std::span(positions_).last(static_cast<std::size_t>(rows)),
         .moments = {.count = kLength - kFirstMomentPosition,
                     .mean = {mean_.data(), {kHeads, kDim}},
                     .covariance = {covariance_.data(), {kHeads, kDim, kDim}}},
         .output_projection = {projection_.data(), {kHeads, kHidden, kDim}}},
        scores);
    SequenceScores all{.sequence = SequenceId{0},
                       .next_position = kLength,
                       .num_context = kLength,
                       .num_kv_heads = kKvHeads,
                       .heads = {}};
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      for (const auto& head : scores) all.heads.push_back({positions_, head});
    }
    return all;
  }

  /// Leaves what a scheduler that reads keys alone keeps of the positions that are held.
  void keep_of(const Scheduler& scheduler, const KvBudget& budget,
               std::vector<std::vector<Position>>& held) const {
    const Position next = held[0].back() + 1;
    Exec exec = Exec::cpu(1);
    std::vector<std::vector<float>> keys(held.size());
    std::vector<std::vector<float>> scores;
    std::vector<HeadSlots> heads;
    for (std::size_t h = 0; h < held.size(); ++h) {
      for (const Position p : held[h]) {
        const float* from = key(static_cast<std::int64_t>(h), p);
        keys[h].insert(keys[h].end(), from, from + kDim);
      }
      const auto n = static_cast<std::int64_t>(held[h].size());
      heads.push_back({.positions = held[h], .keys = {keys[h].data(), {n, kDim}}, .values = {}});
      scores.emplace_back(held[h].size());
    }
    scheduler.score(exec,
                    {.sequence = SequenceId{0},
                     .layer = LayerId{0},
                     .next_position = next,
                     .num_context = kLength,
                     .heads = heads,
                     .budget = budget},
                    scores);
    SequenceScores all{.sequence = SequenceId{0},
                       .next_position = next,
                       .num_context = kLength,
                       .num_kv_heads = kKvHeads,
                       .heads = {}};
    for (std::size_t h = 0; h < held.size(); ++h) all.heads.push_back({held[h], scores[h]});
    std::vector<std::vector<std::int32_t>> evict(held.size());
    scheduler.select(all, budget, evict);
    for (std::size_t h = 0; h < held.size(); ++h) {
      for (auto i = evict[h].rbegin(); i != evict[h].rend(); ++i) {
        held[h].erase(held[h].begin() + *i);
      }
    }
  }

  /// Values of the slots that stay, after what goes was merged into them: [Hkv] of [kept, D].
  [[nodiscard]] std::vector<std::vector<double>> merged(const Scheduler& scheduler,
                                                        const KvBudget& budget) const {
    Exec exec = Exec::cpu(1);
    const SequenceScores scores = score(scheduler, budget);
    std::vector<std::vector<std::int32_t>> evict(kKvHeads);
    scheduler.select(scores, budget, evict);
    std::vector<View<const float, 2>> keys, values;
    for (std::int64_t h = 0; h < kKvHeads; ++h) {
      keys.push_back({keys_.data() + h * kLength * kDim, {kLength, kDim}});
      values.push_back({values_.data() + h * kLength * kDim, {kLength, kDim}});
    }
    std::vector<std::vector<ValueTerm>> terms(kKvHeads);
    scheduler.merge(exec,
                    {.sequence = SequenceId{0},
                     .layer = LayerId{0},
                     .next_position = kLength,
                     .num_context = kLength,
                     .heads = scores.heads,
                     .evict = evict,
                     .keys = keys,
                     .values = values},
                    terms);
    std::vector<std::vector<double>> result(kKvHeads);
    for (std::size_t h = 0; h < result.size(); ++h) {
      for (std::int32_t slot = 0; slot < kLength; ++slot) {
        if (std::ranges::binary_search(evict[h], slot)) continue;
        for (std::int64_t d = 0; d < kDim; ++d) {
          const auto of = [&](std::int32_t i) { return static_cast<double>(values[h].row(i)[d]); };
          double own = 1;
          double others = 0;
          for (const ValueTerm& term : terms[h]) {
            if (term.to != slot) continue;
            if (term.from == slot) {
              own = static_cast<double>(term.weight);
            } else {
              others += static_cast<double>(term.weight) * of(term.from);
            }
          }
          result[h].push_back(own * of(slot) + others);
        }
      }
    }
    return result;
  }

  /// Tokens [4, 28) are read again, as if tokens 28 and on were the second reading, and select()
  /// sees these slots alone.
  [[nodiscard]] SequenceScores reread_scores(const Scheduler& scheduler) const {
    constexpr RereadChunk kChunk{.begin = 4, .end = 28, .first_row = 28};
    Exec exec = Exec::cpu(1);
    std::vector<HeadSlots> heads;
    std::vector<std::vector<float>> scores;
    for (std::int64_t h = 0; h < kKvHeads; ++h) {
      heads.push_back({.positions = positions_,
                       .keys = {keys_.data() + h * kLength * kDim, {kLength, kDim}},
                       .values = {nullptr, {0, kDim}},
                       .columns = {}});
      scores.emplace_back(static_cast<std::size_t>(kLength));
    }
    constexpr std::int64_t kRows = kLength - kChunk.first_row;
    LayerSlots slots{
        .sequence = SequenceId{0},
        .layer = LayerId{0},
        .next_position = kLength,
        .num_context = kChunk.first_row,
        .heads = heads,
        .budget = {},
        .inverse_frequencies = frequencies_,
        .queries = {queries_.data() + kChunk.first_row * kHeads * kDim, {kRows, kHeads, kDim}},
        .query_positions = std::span(positions_).last(kRows)};
    scheduler.score_reread(exec, slots, kChunk, scores);
    SequenceScores all{.sequence = SequenceId{0},
                       .next_position = kChunk.end,
                       .num_context = kChunk.end,
                       .num_kv_heads = kKvHeads,
                       .heads = {}};
    constexpr auto kChunkTokens = static_cast<std::size_t>(kChunk.end - kChunk.begin);
    std::vector<std::vector<float>> final_scores;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      heads[h].positions = heads[h].positions.subspan(kChunk.begin, kChunkTokens);
      heads[h].reread_scores = std::span(scores[h]).subspan(kChunk.begin, kChunkTokens);
      final_scores.emplace_back(kChunkTokens);
    }
    slots.next_position = kChunk.end;
    scheduler.score(exec, slots, final_scores);
    for (std::size_t h = 0; h < heads.size(); ++h) {
      all.heads.push_back(
          {{heads[h].positions.begin(), heads[h].positions.end()}, final_scores[h]});
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        const auto p = static_cast<Position>(i);
        if (p >= kChunk.begin && p < kChunk.end) continue;
        EXPECT_EQ(scores[h][i], 0.0f) << "position " << p << " was not read again";
      }
    }
    return all;
  }

 private:
  std::vector<float> draw(std::int64_t count, double scale) {
    std::vector<float> result;
    for (std::int64_t i = 0; i < count; ++i) {
      state_ = 1664525u * state_ + 1013904223u;
      const double u = static_cast<double>(state_ / 256) / 16777216.0 * 2.0 - 1.0;
      result.push_back(static_cast<float>(scale * u));
    }
    return result;
  }

  void add_moments() {
    const double count = kLength - kFirstMomentPosition;
    mean_.resize(kHeads * kDim);
    covariance_.resize(kHeads * kDim * kDim);
    for (std::int64_t h = 0; h < kHeads; ++h) {
      const auto q = [&](std::int64_t t, std::int64_t d) {
        return static_cast<double>(queries_[static_cast<std::size_t>((t * kHeads + h) * kDim + d)]);
      };
      double mean[kDim] = {};
      for (std::int64_t t = kFirstMomentPosition; t < kLength; ++t) {
        for (std::int64_t d = 0; d < kDim; ++d) mean[d] += q(t, d) / count;
      }
      for (std::int64_t i = 0; i < kDim; ++i) {
        mean_[static_cast<std::size_t>(h * kDim + i)] = static_cast<float>(mean[i]);
        for (std::int64_t j = 0; j < kDim; ++j) {
          double sum = 0;
          for (std::int64_t t = kFirstMomentPosition; t < kLength; ++t) {
            sum += (q(t, i) - mean[i]) * (q(t, j) - mean[j]);
          }
          covariance_[static_cast<std::size_t>((h * kDim + i) * kDim + j)] =
              static_cast<float>(sum / count);
        }
      }
    }
  }

  std::uint32_t state_ = 1;
  std::vector<Position> positions_;
  std::vector<float> queries_, keys_, values_, projection_, frequencies_, mean_, covariance_;
};

std::vector<std::vector<std::int32_t>> kept_of(const Scheduler& scheduler,
                                               const SequenceScores& scores,
                                               const KvBudget& budget) {
  std::vector<std::vector<std::int32_t>> evict(scores.heads.size());
  scheduler.select(scores, budget, evict);
  std::vector<std::vector<std::int32_t>> kept(evict.size());
  for (std::size_t h = 0; h < evict.size(); ++h) {
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(scores.heads[h].scores.size()); ++i) {
      if (!std::ranges::binary_search(evict[h], i)) kept[h].push_back(i);
    }
  }
  return kept;
}

class GoldenCases : public testing::TestWithParam<Case> {};

TEST_P(GoldenCases, KeepThePublishedPositions) {
  const auto scheduler = make_policy("scheduler", scheduling::schedulers(), GetParam().scheduler);
  const KvBudget budget{.fraction = GetParam().fraction};
  const auto keep = kept_of(*scheduler, Numbers().score(*scheduler, budget), budget);
  for (std::size_t h = 0; h < keep.size(); ++h) {
    EXPECT_EQ(keep[h], parse(GetParam().kept[h])) << "head " << h;
  }
}

// KeyRotation(StreamingLLM) of kvpress numbers the slots that stay 0, 1, ...: the one of position
// 24 gets 4.
TEST(Golden, AKeyTurnsAsKeyRotationHasIt) {
  constexpr double kExpected[kDim] = {0.266551, -0.046320, 0.105105, 0.455619,
                                      0.438109, 0.366609,  0.593377, 0.894489};
  const Numbers numbers;
  const PageLayout layout = make_page_layout(16, kDim, DType::kF32);
  std::vector<float> page(layout.page_bytes() / sizeof(float), -7.0f);
  const kernels::KeyTurn turn{.key = numbers.key(0, 24),
                              .page = reinterpret_cast<std::byte*>(page.data()),
                              .slot = 4,
                              .from = 24,
                              .to = 4};
  Exec exec = Exec::cpu(1);
  kernels::turn_keys(exec, {.layout = layout,
                            .inverse_frequencies = {numbers.frequencies().data(), {kDim / 2}},
                            .turns = {&turn, {1}}});
  for (std::size_t d = 0; d < kDim; ++d) {
    EXPECT_NEAR(static_cast<double>(page[d * 16 + 4]), kExpected[d], 2e-6) << "channel " << d;
  }
}

// MergingPress over Knorm: the sum of the values kept, and that of their absolute values.
TEST(Golden, ValuesAreMergedAsMergingPressMergesThem) {
  constexpr double kSums[kKvHeads] = {-2.92299, -4.01603};
  constexpr double kAbsoluteSums[kKvHeads] = {63.58022, 60.21227};
  const auto scheduler = make_policy("scheduler", scheduling::schedulers(), "merging:scorer=knorm");
  const auto values = Numbers().merged(*scheduler, {.fraction = 0.5});
  for (std::size_t h = 0; h < values.size(); ++h) {
    double sum = 0;
    double absolute = 0;
    for (const double x : values[h]) {
      sum += x;
      absolute += std::abs(x);
    }
    EXPECT_NEAR(sum, kSums[h], 2e-5) << "head " << h;
    EXPECT_NEAR(absolute, kAbsoluteSums[h], 2e-5) << "head " << h;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kvpress, GoldenCases,
    testing::Values(
        Case{"Knorm",
             "knorm",
             0.5,
             {"0 2 5 7 13-18 22-24 28 29 32-35 38",
              "0 2 5-7 9-11 13 16 18 23 24 28 30 32 34 37-39"}},
        Case{"MergingKnorm",
             "merging:scorer=knorm",
             0.5,
             {"0 2 5 7 13-18 22-24 28 29 32-35 38",
              "0 2 5-7 9-11 13 16 18 23 24 28 30 32 34 37-39"}},
        Case{"StreamingLlm", "streaming_llm", 0.5, {"0-3 24-39", "0-3 24-39"}},
        Case{"SnapKv", "snapkv:window=8", 0.5, {"2-12 24 32-39", "2 3 7-9 23-29 32-39"}},
        Case{"Tova",
             "tova",
             0.5,
             {"0 2 3 7 8 10 11 14 16 18 20-22 25 26 33 34 36 37 39",
              "0 2 3 7 8 10 11 14 16 18 20-22 25 26 33 34 36 37 39"}},
        Case{"KeyDiff",
             "keydiff",
             0.5,
             {"1 3 4 6 7 9 11 15 18 20 22 24 25 27-29 31 32 38 39",
              "0 4 6 9 12 19 21-25 28 29 31-35 38 39"}},
        Case{"LagKv", "lagkv:lag=8", 0.55, {"0-3 8 11 12 17 26-39", "0-3 7 9 12 19 20 27-39"}},
        Case{"ExpectedAttention",
             "expected_attention:future=16",
             0.5,
             {"0-3 5 7 8 10-12 15 16 22 25 26 28 34-37",
              "0-3 8 12 16 17 19 20 22 24-27 31 32 35 38 39"}},
        Case{"ExpectedAttentionEpsilon",
             "expected_attention:future=16,epsilon=0.01",
             0.5,
             {"0-3 5 7 8 10-12 15 22 25 26 28 30 34-37",
              "0-3 8 12 16 17 19 20 22 24-27 31 32 35 38 39"}},
        Case{"NonCausal",
             "noncausal:block=16,padded=1",
             0.5,
             {"6-13 18-21 31-38", "2 3 9 13-15 18-23 25-27 32 35-38"}},
        Case{"Cur",
             "cur",
             0.5,
             {"0-3 7 8 11 12 25 26 28 30 32-39", "0-3 8 12 19 20 22 25 27 31-39"}},
        Case{"CapKv",
             "capkv:future=16",
             0.5,
             {"0-3 5 8 10 12 13 15 18 19 26-28 33 34 36 37 39",
              "0-3 5 7-9 17 19 22 25 27 31 34-39"}},
        // The published sum is 0.338444.
        Case{"SimLayerKvLazy",
             "simlayerkv:recent=8,threshold=0.3384",
             1.0,
             {"0-3 32-39", "0-3 32-39"}},
        Case{"SimLayerKvNotLazy", "simlayerkv:recent=8,threshold=0.3385", 1.0, {"0-39", "0-39"}},
        Case{"AdaKvHalf", "adakv:window=4", 0.5, {"4-12 16-21 23-25 36-39", "1-3 8 9 24-32 36-39"}},
        Case{
            "AdaKvThirty", "adakv:window=4", 0.3, {"4-6 8 20 23 24 36-39", "2 8 9 25-29 31 36-39"}},
        Case{"AdaKvExpected",
             "adakv:scorer=expected_attention,future=16",
             0.25,
             {"0-3 7 8 12 26 28 34 36", "0-3 19 24 25 27 31"}},
        // All that is kept by the first stage is what Ada-KV keeps.
        Case{"CriticalAdaKvOfOneStage",
             "criticaladakv:window=4,first_stage=1",
             0.5,
             {"4-12 16-21 23-25 36-39", "1-3 8 9 24-32 36-39"}},
        Case{"ChunkPress",
             "segments:segment=16,scorer=knorm",
             0.5,
             {"0 2 3 5 7 13-18 22-24 28 29 33-35 38",
              "0 2 5-7 9 11 13 16 18 23 24 26 28 30 31 34 37-39"}},
        Case{"CriticalAdaKv",
             "criticaladakv:window=4",
             0.25,
             {"5 7 8 15 24 26 36-39", "1 2 8 25 27 31 36-39"}},
        Case{"ChunkKv", "chunkkv:chunk=5,window=8", 0.5, {"5-9 25-39", "5-9 25-39"}},
        Case{"CriticalKv",
             "criticalkv:window=8",
             0.5,
             {"1 4-8 11 12 15 24 26 28 32-39", "1 2 6-8 12 16 24-28 32-39"}}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

std::vector<std::size_t> sizes_of(const std::vector<std::vector<std::int32_t>>& kept) {
  std::vector<std::size_t> sizes;
  for (const auto& head : kept) sizes.push_back(head.size());
  return sizes;
}

TEST(GoldenPyramid, KeepsWhatKvpressKeeps) {
  const auto scheduler = make_policy("scheduler", scheduling::schedulers(), "pyramidkv:window=8");
  const KvBudget half{.fraction = 0.5};
  const auto kept = kept_of(*scheduler, Numbers().score(*scheduler, half, 4), half);
  EXPECT_EQ(sizes_of(kept), (std::vector<std::size_t>{32, 32, 24, 24, 16, 16, 8, 8}));
  EXPECT_EQ(kept[4], parse("4-11 32-39"));
  EXPECT_EQ(kept[5], parse("2 9 24-29 32-39"));
}

TEST(GoldenPyramid, KeepsAsManyAsKvCacheFactoryKeeps) {
  const auto scheduler =
      make_policy("scheduler", scheduling::schedulers(), "pyramidkv:rule=factory,window=4");
  const KvBudget slots{.slots = 16};
  EXPECT_EQ(sizes_of(kept_of(*scheduler, Numbers().score(*scheduler, slots, 4), slots)),
            (std::vector<std::size_t>{28, 28, 20, 20, 12, 12, 4, 4}));
}

// KVCache-Factory's budgets at 32 layers and a window of 8, of which it is known that they are not
// those that were asked for.
TEST(GoldenPyramid, HasTheBudgetsOfKvCacheFactoryInALargerModel) {
  const auto scheduler =
      make_policy("scheduler", scheduling::schedulers(), "pyramidkv:rule=factory,window=8");
  struct Budget {
    std::int64_t slots, length, first, last;
    double mean;
  };
  for (const Budget& budget :
       {Budget{64, 7000, 118, 25, 71.5}, Budget{96, 7000, 180, 25, 102.5},
        Budget{128, 7000, 242, 25, 133.5}, Budget{512, 7000, 991, 61, 526},
        Budget{1024, 7000, 1990, 68, 1029}, Budget{2048, 7500, 3986, 111, 2048.5}}) {
    SCOPED_TRACE(testing::Message() << budget.slots << " slots");
    const auto length = static_cast<std::size_t>(budget.length);
    SequenceScores scores{.sequence = SequenceId{0},
                          .next_position = static_cast<Position>(length),
                          .num_context = budget.length,
                          .num_kv_heads = 1,
                          .heads = {}};
    HeadScores head{.positions = std::vector<Position>(length),
                    .scores = std::vector<float>(length)};
    std::iota(head.positions.begin(), head.positions.end(), Position{0});
    scores.heads.assign(32, head);
    const std::vector<std::size_t> sizes =
        sizes_of(kept_of(*scheduler, scores, {.slots = budget.slots}));
    EXPECT_EQ(sizes.front(), static_cast<std::size_t>(budget.first));
    EXPECT_EQ(sizes.back(), static_cast<std::size_t>(budget.last));
    EXPECT_NEAR(
        static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0})) / 32,
        budget.mean, 0.5);
  }
}

// The largest of neighbours makes runs of equal scores, so that the cut falls among equals: what is
// kept has the scores of what KVCache-Factory keeps.
TEST(GoldenMaxPooling, KeepsWhatKvCacheFactoryKeeps) {
  struct Variant {
    const char* group;
    const char* kept[kKvHeads];
  };
  for (const Variant& variant : {Variant{"mean", {"3-9 11 12 19-25 36-39", "5-7 10 19-30 36-39"}},
                                 Variant{"max", {"3-9 11 12 19-25 36-39", "0-3 19-30 36-39"}}}) {
    SCOPED_TRACE(variant.group);
    const auto scheduler =
        make_policy("scheduler", scheduling::schedulers(),
                    std::string("snapkv:window=4,kernel=7,pooling=max,group=") + variant.group);
    const KvBudget slots{.slots = 20};
    const SequenceScores scores = Numbers().score(*scheduler, slots);
    const auto kept = kept_of(*scheduler, scores, slots);
    for (std::size_t h = 0; h < kept.size(); ++h) {
      const auto scores_of = [&](const std::vector<std::int32_t>& positions) {
        std::multiset<float> result;
        for (const std::int32_t p : positions) {
          if (p < 36) result.insert(scores.heads[h].scores[static_cast<std::size_t>(p)]);
        }
        return result;
      };
      EXPECT_EQ(scores_of(kept[h]), scores_of(parse(variant.kept[h]))) << "head " << h;
      EXPECT_EQ(kept[h].size(), 20u);
    }
  }
}

TEST(GoldenAdaKv, KeepsAsManyAsKvCacheFactoryKeeps) {
  const auto sizes = [](const std::string& more) {
    const auto scheduler =
        make_policy("scheduler", scheduling::schedulers(),
                    "adakv:rule=factory,floor=0.2,window=4,kernel=7,pooling=max" + more);
    const KvBudget slots{.slots = 20};
    return sizes_of(kept_of(*scheduler, Numbers().score(*scheduler, slots), slots));
  };
  EXPECT_EQ(sizes(""), (std::vector<std::size_t>{17, 22}));
  EXPECT_EQ(sizes(",normalize=0"), (std::vector<std::size_t>{18, 21}));
}

// The budgets of the heads are Ada-KV's, 22 and 18, whatever is kept within them.
TEST(GoldenAdaKv, CriticalKvChoosesWithinItsBudgets) {
  const KvBudget half{.fraction = 0.5};
  for (const char* stages : {"0", "0.5"}) {
    const auto scheduler = make_policy("scheduler", scheduling::schedulers(),
                                       std::string("criticaladakv:window=4,first_stage=") + stages);
    const auto kept = kept_of(*scheduler, Numbers().score(*scheduler, half), half);
    EXPECT_EQ(sizes_of(kept), (std::vector<std::size_t>{22, 18}));
    EXPECT_NE(kept[0], parse("4-12 16-21 23-25 36-39")) << "values count in the second stage";
  }
}

// kvpress' BlockPress: the first tokens, as many as are to stay; then of these and the next block
// the best, again and again.
TEST(GoldenBlocks, KeyDiffKeepsBlockByBlockWhatBlockPressKeeps) {
  const auto scheduler = make_policy("scheduler", scheduling::schedulers(), "keydiff");
  const Numbers numbers;
  std::vector<Position> first(20);
  std::iota(first.begin(), first.end(), Position{0});
  std::vector<std::vector<Position>> held(kKvHeads, first);
  for (const Position next : {28, 36, 40}) {
    // The newest of a head may be gone; blocks go on where the last one ended.
    for (std::vector<Position>& head : held) {
      for (Position p = next == 40 ? 36 : next - 8; p < next; ++p) head.push_back(p);
    }
    numbers.keep_of(*scheduler, {.slots = 20}, held);
  }
  EXPECT_EQ(held[0], parse("2-4 7 9 15 18 20-24 27-29 31 32 35-37"));
  EXPECT_EQ(held[1], parse("1 2 4 6 8 9 19 21-26 31-36 39"));
}

// Positions are those within the chunk.
TEST(GoldenKvZip, KeepsWhatThePublishedCodeKeeps) {
  const auto pair = make_policy("scheduler", scheduling::schedulers(), "kvzip");
  const SequenceScores scores = Numbers().reread_scores(*pair);
  constexpr std::array kFirstScores = {0.079565f, 0.054414f, 0.159558f, 0.065389f};
  for (std::size_t i = 0; i < kFirstScores.size(); ++i) {
    EXPECT_NEAR(scores.heads[0].scores[i], kFirstScores[i], 1e-6f);
  }
  const KvBudget half{.slots = 12};
  const auto uniform = make_policy("scheduler", scheduling::schedulers(), "kvzip:level=uniform");
  const auto of_each = kept_of(*uniform, scores, half);
  EXPECT_EQ(of_each[0], parse("2 4-6 8 11 13 15 16 18 22 23"));
  EXPECT_EQ(of_each[1], parse("0 4 6-8 11 13 16 18 21-23"));

  // The published code keeps 23 of 24, those above the 24th score, which we keep too.
  auto of_all = kept_of(*pair, scores, half);
  float least = 1;
  for (std::size_t h = 0; h < of_all.size(); ++h) {
    for (const std::int32_t i : of_all[h]) {
      least = std::min(least, scores.heads[h].scores[static_cast<std::size_t>(i)]);
    }
  }
  EXPECT_NEAR(least, 0.0818592f, 1e-6f);
  for (std::size_t h = 0; h < of_all.size(); ++h) {
    std::erase_if(of_all[h], [&](std::int32_t i) {
      return scores.heads[h].scores[static_cast<std::size_t>(i)] == least;
    });
  }
  EXPECT_EQ(of_all[0], parse("2 4-6 8 11 15 16 18 22 23"));
  EXPECT_EQ(of_all[1], parse("0 4 6-8 11 13 16 18 21-23"));
}

}  // namespace
}  // namespace pikv
