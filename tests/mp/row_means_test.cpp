// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What models/tiny-moe says about tokens that are given: the loss of a text, which the hub
// implementation computed too, and the distance between compressed and full caches.
#include "launch/eval/row_means.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "core/io/safetensors.hpp"
#include "launch/eval/cell_runner.hpp"
#include "launch/runtime.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv::launch {
namespace {

namespace fs = std::filesystem;

constexpr double kTextLoss = 4.34785;  // nats a token, by the hub implementation

class RowMeansTest : public testing::Test {
 protected:
  RowMeansTest() {
    options_.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
    options_.num_threads = 1;
    const SafetensorsFile reference(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
    for (const std::int64_t token : to_integers(reference.tensor("text.input_ids"))) {
      text_.push_back(static_cast<TokenId>(token));
    }
    for (const std::int64_t token : to_integers(reference.tensor("passkey.input_ids"))) {
      passkey_.push_back(static_cast<TokenId>(token));
    }
  }

  /// A part of a text as a sample: context, one token, continuation.
  [[nodiscard]] static Sample sample(const std::vector<TokenId>& text, std::ptrdiff_t first,
                                     std::ptrdiff_t context, std::ptrdiff_t continuation) {
    const auto begin = text.begin() + first;
    const auto behind = begin + context + 1;
    return {.id = "s",
            .group = "g",
            .context = {begin, begin + context},
            .questions = {{.tokens = {begin[context]},
                           .answers = {},
                           .continuation = {behind, behind + continuation}}}};
  }

  [[nodiscard]] CellResult run(CellRunner& runner, const std::string& scheduler,
                               const std::string& budget) {
    return runner.run({.scheduler = scheduler, .budget = budget, .mode = Mode::kAgnostic}, {});
  }

  RuntimeOptions options_;
  std::vector<TokenId> text_;
  std::vector<TokenId> passkey_;  // 576 tokens, sentences repeated
  const Tokenizer tokenizer_ =
      Tokenizer::from_file(fs::path(PIKV_MODELS_DIR) / "tiny-moe" / "tokenizer.json");
};

TEST(LogProbabilities, AreThoseOfTheLogits) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  const std::vector<float> result = log_probabilities(logits);
  EXPECT_NEAR(std::exp(result[0]), 0.125, 1e-6);
  EXPECT_NEAR(std::exp(result[1]), 0.25, 1e-6);
  EXPECT_NEAR(std::exp(result[2]), 0.625, 1e-6);
  const std::vector<float> large = {1000.0f, 1000.0f, -1000.0f};
  EXPECT_NEAR(log_probabilities(large)[1], -std::log(2.0), 1e-6);
  EXPECT_NEAR(log_probabilities(large)[2], -2000.0, 1.0);
}

TEST_F(RowMeansTest, TheLossOfAForcedTextEqualsTheHubImplementation) {
  Runtime runtime(world(), options_);
  const Request request{.prompt = {text_[0]},
                        .max_tokens = static_cast<std::int64_t>(text_.size()) - 1,
                        .forced_tokens = {text_.begin() + 1, text_.end()}};
  const RowMeans result = run_row_means(runtime.engine(), world(), {&request, 1},
                                        negative_log_likelihood({&request, 1}), {});
  EXPECT_EQ(result.completions[0].tokens, request.forced_tokens);
  EXPECT_NEAR(result.means[0], kTextLoss, kTextLoss * 1e-4);
}

TEST_F(RowMeansTest, PerplexityRisesWithWhatIsTakenAway) {
  const std::vector<Sample> samples = {sample(passkey_, 0, 300, 60), sample(passkey_, 40, 280, 60),
                                       sample(passkey_, 99, 250, 50)};
  CellRunner runner(world(), options_, tokenizer_, samples, {.measure = Measure::kPerplexity});
  const CellResult full = run(runner, "full", "1.0");
  ASSERT_EQ(full.groups.size(), 1u);
  EXPECT_EQ(full.groups[0].measure, Measure::kPerplexity);
  ASSERT_EQ(full.groups[0].scores.size(), 3u);
  // With nothing evicted it does not matter where the context ends.
  Runtime runtime(world(), options_);
  const Request whole{.prompt = {passkey_.begin(), passkey_.begin() + 301},
                      .max_tokens = 60,
                      .forced_tokens = {passkey_.begin() + 301, passkey_.begin() + 361}};
  const RowMeans expected = run_row_means(runtime.engine(), world(), {&whole, 1},
                                          negative_log_likelihood({&whole, 1}), {});
  EXPECT_NEAR(full.groups[0].scores[0], expected.means[0], 1e-4);
  // The text repeats itself, so that the model needs what it has read.
  const CellResult least = run(runner, "recency", "2");
  EXPECT_GT(least.groups[0].estimate().value, full.groups[0].estimate().value * 1.03);
  EXPECT_LT(least.kv_bytes, full.kv_bytes);
}

TEST_F(RowMeansTest, TheDistanceFromTheFullCacheIsZeroForItselfAndGrowsWithEviction) {
  const std::vector<Sample> samples = {sample(text_, 0, 200, 60), sample(text_, 40, 180, 33),
                                       sample(text_, 99, 150, 50)};
  for (const Measure measure : {Measure::kKl, Measure::kOutputError}) {
    CellRunner runner(world(), options_, tokenizer_, samples, {.measure = measure});
    for (const char* scheduler : {"full", "keydiff"}) {
      const CellResult whole = run(runner, scheduler, "1.0");
      EXPECT_EQ(whole.groups[0].measure, measure);
      EXPECT_EQ(whole.groups[0].scores, std::vector<double>(3, 0.0)) << scheduler;
    }
    double last = 0;
    for (const char* budget : {"0.9", "0.5", "0.05"}) {
      const double distance = run(runner, "keydiff", budget).groups[0].estimate().value;
      EXPECT_GT(distance, last) << name(measure) << " with " << budget;
      last = distance;
    }
  }
}

TEST_F(RowMeansTest, DivergenceWeighsByTheReference) {
  const Request request{.prompt = {1}, .max_tokens = 1, .forced_tokens = {2}};
  ReferenceRows reference;
  const std::vector<float> p = {std::log(0.5f), std::log(0.5f)};
  const std::vector<float> q = {std::log(0.9f), std::log(0.1f)};
  (void)reference.keeper({&request, 1})(0, 0, p);
  EXPECT_NEAR(reference.divergence()(0, 0, q), 0.5 * std::log(0.5 / 0.9) + 0.5 * std::log(5.0),
              1e-6);
  EXPECT_EQ(reference.divergence()(0, 0, p), 0.0);
}

TEST_F(RowMeansTest, TheOutputErrorIsRelativeToTheReference) {
  const Request request{.prompt = {1}, .max_tokens = 1, .forced_tokens = {2, 2}};
  ReferenceRows reference;
  const std::vector<float> zeros = {0, 0, 0};
  const RowFigure keep = reference.keeper({&request, 1});
  (void)keep(0, 0, std::vector<float>{1, -2, 2});
  (void)keep(0, 1, zeros);
  EXPECT_THROW((void)reference.output_error()(0, 1, zeros), InvalidArgument);
  EXPECT_DOUBLE_EQ(reference.output_error()(0, 0, std::vector<float>{1, -2, 2}), 0.0);
  EXPECT_DOUBLE_EQ(reference.output_error()(0, 0, zeros), 1.0);
  EXPECT_DOUBLE_EQ(reference.output_error()(0, 0, std::vector<float>{5, -5, 2}), 5.0 / 3.0);
}

}  // namespace
}  // namespace pikv::launch
