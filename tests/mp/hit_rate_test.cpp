// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Hit rates of compressed caches, against the account that slots keep of their attention in a full
// cache, and on any number of ranks.
#include "launch/eval/hit_rate.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "core/io/safetensors.hpp"
#include "kernels/common/error.hpp"
#include "launch/eval/cell_runner.hpp"
#include "launch/runtime.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random.hpp"

namespace pikv::launch {
namespace {

namespace fs = std::filesystem;

/// What a run leaves that evicted these positions of every head after so many tokens.
Completion evicted(const std::vector<TokenId>& tokens, const ModelConfig& model, Position begin,
                   Position end, Position after) {
  SequenceScores scores{.sequence = SequenceId{0},
                        .next_position = after,
                        .num_context = after,
                        .num_kv_heads = model.num_kv_heads,
                        .heads = {}};
  const auto num_heads = static_cast<std::size_t>(model.num_layers * model.num_kv_heads);
  HeadScores& head = scores.heads.emplace_back();
  std::vector<std::int32_t> evict;
  for (Position p = begin; p < end; ++p) {
    evict.push_back(static_cast<std::int32_t>(head.positions.size()));
    head.positions.push_back(p);
  }
  head.scores.resize(head.positions.size());
  scores.heads.resize(num_heads, scores.heads.front());
  Completion completion;
  completion.computed = tokens;
  completion.evictions.add(scores, std::vector(num_heads, evict),
                           std::vector<std::vector<SlotMove>>(num_heads));
  return completion;
}

/// A small model, without and with a sliding window.
class HitRateOf : public testing::TestWithParam<const char*> {
 protected:
  HitRateOf() {
    options_.model = fs::path(PIKV_TEST_DATA_DIR) / GetParam();
    options_.num_threads = 1;
    options_.chunk_tokens = 16;
    testing_support::Random random(31);
    for (int i = 0; i < 60; ++i) {
      tokens_.push_back(static_cast<TokenId>(random.integer(3, 95)));
    }
  }

  [[nodiscard]] double hit_rate(const Completion& completion, std::int64_t first_query,
                                Communicator& comm) const {
    Runtime runtime(comm, options_);
    HitRate rate(runtime, options_.chunk_tokens, {});
    rate.add(completion, first_query);
    return rate.mean().value();
  }
  [[nodiscard]] ModelConfig model() const { return read_model_config(options_.model); }

  /// The attention that slots [begin, end) and all of them received from the first `num_tokens`
  /// queries, by the columns that a full cache of one rank keeps.
  [[nodiscard]] std::pair<double, double> received(std::int64_t num_tokens, Position begin,
                                                   Position end) const {
    const auto alone = make_single_communicator();
    RuntimeOptions options = options_;
    options.scheduler = "h2o:when=prefill";
    options.budget_text = "1.0";
    Runtime runtime(*alone, options);
    const Request request{.prompt = {tokens_.begin(), tokens_.begin() + num_tokens},
                          .max_tokens = 1};
    runtime.engine().keep_finished_sequences(true);
    (void)runtime.engine().run({&request, 1});
    double some = 0;
    double all = 0;
    for (std::int64_t layer = 0; layer < runtime.model().num_layers; ++layer) {
      for (std::int64_t h = 0; h < runtime.model().num_kv_heads; ++h) {
        KvCache::HeadContents slots;
        runtime.cache().read_slots(SequenceId{0}, id_from<LayerId>(layer), id_from<HeadId>(h),
                                   false, false, slots);
        EXPECT_EQ(slots.positions.size(), static_cast<std::size_t>(num_tokens));
        for (std::size_t i = 0; i < slots.positions.size(); ++i) {
          const auto attention = static_cast<double>(slots.columns[i]);
          all += attention;
          if (slots.positions[i] >= begin && slots.positions[i] < end) some += attention;
        }
      }
    }
    return {some, all};
  }

  RuntimeOptions options_;
  std::vector<TokenId> tokens_;
};

TEST_P(HitRateOf, IsWhatTheColumnsOfAFullCacheSay) {
  constexpr std::int64_t kFirst = 37;
  for (const auto& [begin, end] : {std::pair<Position, Position>{0, 35}, {31, 34}, {0, 37}}) {
    const auto [missed_before, all_before] = received(kFirst, begin, end);
    const auto [missed, all] = received(60, begin, end);
    const double expected = 1 - (missed - missed_before) / (all - all_before);
    EXPECT_LT(expected, 1);
    EXPECT_NEAR(hit_rate(evicted(tokens_, model(), begin, end, kFirst), kFirst, world()), expected,
                1e-5)
        << begin << " to " << end;
  }
}

TEST_P(HitRateOf, QueriesMissWhatWentBeforeThemAlone) {
  // What a window of eight positions still reaches is among what goes.
  const auto rate = [&](Position after, std::int64_t first_query) {
    return hit_rate(evicted(tokens_, model(), 25, after - 2, after), first_query, world());
  };
  EXPECT_EQ(rate(60, 20), 1.0) << "nobody came after it";
  EXPECT_LT(rate(59, 59), 1.0);
  EXPECT_NEAR(rate(59, 20) * 40 - 39, rate(59, 59), 1e-6) << "the last query alone misses it";
  EXPECT_LT(rate(50, 50), 1.0);
  EXPECT_NEAR(rate(50, 40), (1.0 + rate(50, 50)) / 2, 1e-6) << "ten of twenty found everything";
}

TEST_P(HitRateOf, IsTheMeanOverQueriesNotOverSequences) {
  Runtime runtime(world(), options_);
  HitRate rate(runtime, options_.chunk_tokens, {});
  EXPECT_FALSE(rate.mean().has_value());
  Completion none;
  none.computed = tokens_;
  rate.add(none, 60);
  EXPECT_FALSE(rate.mean().has_value()) << "no query";
  rate.add(none, 20);
  EXPECT_EQ(rate.mean(), 1.0) << "exactly";
  const Completion half = evicted(tokens_, model(), 0, 30, 30);
  rate.add(half, 50);
  EXPECT_NEAR(rate.mean().value(), (40 + 10 * hit_rate(half, 50, world())) / 50, 1e-6);
  runtime.cache().check_integrity();
}

TEST_P(HitRateOf, IsThatOfOneRank) {
  const Completion completion = evicted(tokens_, model(), 10, 40, 45);
  EXPECT_NEAR(hit_rate(completion, 33, world()),
              hit_rate(completion, 33, *make_single_communicator()), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Models, HitRateOf,
                         testing::Values("families/qwen3_moe", "families_extra/mistral_window"),
                         [](const auto& info) { return fs::path(info.param).filename().string(); });

TEST(HitRate, ComparesWithAFullCacheAlone) {
  RuntimeOptions options;
  options.model = fs::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
  options.num_threads = 1;
  options.scheduler = "recency";
  Runtime runtime(world(), options);
  EXPECT_THROW(HitRate(runtime, 16, {}), InvalidArgument);
}

/// Cells of tiny-moe about a prompt of 576 tokens: two questions each about two contexts.
class HitRateOfCells : public testing::Test {
 protected:
  HitRateOfCells() {
    options_.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
    options_.num_threads = 1;
    const SafetensorsFile reference(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
    std::vector<TokenId> text;
    for (const std::int64_t token : to_integers(reference.tensor("passkey.input_ids"))) {
      text.push_back(static_cast<TokenId>(token));
    }
    for (const std::ptrdiff_t size : {250, 300}) {
      Sample& sample = samples_.emplace_back();
      sample.id = std::to_string(size);
      sample.group = "g";
      sample.context.assign(text.begin(), text.begin() + size);
      for (const std::ptrdiff_t length : {9, 14}) {
        sample.questions.push_back(
            {.tokens = {text.end() - length, text.end()}, .answers = {"x"}, .max_tokens = 12});
      }
    }
  }

  [[nodiscard]] double run(const std::string& scheduler, Mode mode, CellSetting setting,
                           Communicator& comm) const {
    setting.hit_rate = true;
    CellRunner runner(comm, options_, tokenizer_, samples_, setting);
    return runner.run({.scheduler = scheduler, .budget = "0.3", .mode = mode}, {}).hit_rate.value();
  }

  RuntimeOptions options_;
  std::vector<Sample> samples_;
  const Tokenizer tokenizer_ =
      Tokenizer::from_file(fs::path(PIKV_MODELS_DIR) / "tiny-moe" / "tokenizer.json");
};

TEST_F(HitRateOfCells, IsOneWhereNothingGoes) {
  for (const Mode mode : {Mode::kAgnostic, Mode::kAware}) {
    EXPECT_EQ(run("full", mode, {}, world()), 1.0);
    EXPECT_EQ(run("quest", mode, {}, world()), 1.0) << "what is not read is held";
  }
  EXPECT_EQ(run("full", Mode::kAgnostic, {.gap = 20, .update_cache = true}, world()), 1.0);
}

TEST_F(HitRateOfCells, IsHigherWhereAttentionDecides) {
  const double random = run("random", Mode::kAware, {}, world());
  const double tova = run("tova", Mode::kAware, {}, world());
  EXPECT_GT(random, 0.3);
  EXPECT_GT(tova, random + 0.1);
  EXPECT_LT(tova, 1.0);
}

TEST_F(HitRateOfCells, FallsWithWhatGoesWhileTheAnswerIsGiven) {
  EXPECT_LT(run("recency:when=both,every=1", Mode::kAgnostic, {}, world()),
            run("recency", Mode::kAgnostic, {}, world()));
}

TEST_F(HitRateOfCells, IsTheSameOnAnyNumberOfRanks) {
  const auto expect_same = [&](const char* scheduler, Mode mode, const CellSetting& setting) {
    const double expected = run(scheduler, mode, setting, *make_single_communicator());
    EXPECT_LT(expected, 1.0);
    EXPECT_NEAR(run(scheduler, mode, setting, world()), expected, 1e-3) << scheduler;
  };
  expect_same("snapkv:window=16,when=both,every=5", Mode::kAgnostic, {});
  expect_same("tova", Mode::kAware, {});
  expect_same("keydiff:when=always,stride=100,every=8", Mode::kAgnostic,
              {.gap = 15, .update_cache = true});
  expect_same("streaming_llm:positions=compact,when=always,stride=100,every=5", Mode::kAgnostic,
              {});
}

}  // namespace
}  // namespace pikv::launch
