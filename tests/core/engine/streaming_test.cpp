// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sequences longer than the model's context, on a small mixture (qwen3_moe, context 256).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/engine/engine.hpp"
#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

class Streaming : public testing::Test {
 protected:
  Streaming() {
    options_.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options_.num_threads = 1;
    options_.kv_shards = 1;
  }

  void schedule(const std::string& scheduler, const std::string& budget) {
    options_.scheduler = scheduler;
    options_.budget_text = budget;
  }

  [[nodiscard]] Request request(std::int64_t prompt_tokens, std::int64_t max_tokens) {
    Request request{.prompt = {}, .max_tokens = max_tokens, .unbounded = true};
    for (std::int64_t i = 0; i < prompt_tokens; ++i) {
      request.prompt.push_back(static_cast<TokenId>(random_.integer(3, 383)));
    }
    return request;
  }

  [[nodiscard]] Completion run_alone(const Request& request) const {
    launch::Runtime runtime(*comm_, options_);
    return runtime.engine().run({&request, 1})[0];
  }

  Random random_{171};
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
};

TEST_F(Streaming, TwentyThousandTokensRunInConstantMemory) {
  for (const std::string positions : {"original", "compact"}) {
    schedule("streaming_llm:when=always,stride=64,every=16,positions=" + positions, "96");
    launch::Runtime runtime(*comm_, options_);
    const Request stream = request(10'000, 10'000);
    std::set<std::size_t> pages_after_runs, reserved;
    std::size_t largest_tables[2] = {};  // of either half
    std::int64_t num_passes = 0;
    const auto completions =
        runtime.engine().run({&stream, 1}, {}, [&](std::int64_t done, std::int64_t) {
          const std::int64_t passes = runtime.scheduling().stats().num_passes;
          if (passes == num_passes || done < 300) return;
          num_passes = passes;
          const CacheStats stats = runtime.cache().stats();
          if (stats.num_sequences == 0) return;  // the end
          pages_after_runs.insert(stats.page_bytes);
          reserved.insert(stats.reserved_bytes);
          std::size_t& tables = largest_tables[done > 10'000 ? 1 : 0];
          tables = std::max(tables, stats.table_bytes);
          ASSERT_LE(runtime.cache().positions(runtime.cache().stream_ids()[0]).size(), 96u);
        });
    EXPECT_EQ(completions[0].tokens.size(), 10'000u);
    EXPECT_EQ(completions[0].reason, FinishReason::kMaxTokens);
    EXPECT_GT(num_passes, 700);
    EXPECT_EQ(pages_after_runs.size(), 1u) << "pages in use";
    EXPECT_EQ(reserved.size(), 1u) << "what the pool took";
    EXPECT_LE(largest_tables[1], largest_tables[0]) << "what is held beside the pages";
    // 96 slots and the 64 of a stride, in 3 layers of 2 heads, pages of 16.
    const std::size_t page_bytes = runtime.cache().open_layout().page_bytes();
    EXPECT_LE(runtime.cache().stats().peak_page_bytes, 10 * 3 * 2 * page_bytes);
  }
}

TEST_F(Streaming, ASequenceGoesOnWhileItsCacheIsShorterThanTheContext) {
  // A third of what was seen: with 768 tokens that is the context.
  schedule("streaming_llm:when=both,every=8", "0.3333334");
  const Completion completion = run_alone(request(100, 2000));
  EXPECT_EQ(completion.reason, FinishReason::kContext);
  EXPECT_GT(completion.tokens.size(), 600u);
  EXPECT_LE(completion.tokens.size(), 670u);
  // A scheduler that does not run again, or none, ends it as the context does.
  Request bounded = request(250, 100);
  schedule("full", "1.0");
  const std::vector<TokenId> tokens = run_alone(bounded).tokens;
  EXPECT_EQ(tokens.size(), 7u);
  bounded.unbounded = false;
  EXPECT_EQ(run_alone(bounded).tokens, tokens);
  schedule("streaming_llm", "96");
  const Request once = request(200, 400);
  const Completion until_full = run_alone(once);
  EXPECT_EQ(until_full.reason, FinishReason::kContext);
  // The last token that is computed is slot 256; it was chosen by the one before.
  EXPECT_EQ(until_full.tokens.size(), 256u - 96u + 1u);
}

TEST_F(Streaming, APromptMayBeLongerThanTheContextIfItIsEvictedOnTheWay) {
  schedule("streaming_llm:when=always,stride=100", "120");
  EXPECT_EQ(run_alone(request(1000, 5)).tokens.size(), 5u);
  Request bounded = request(257, 5);
  bounded.unbounded = false;
  EXPECT_THROW((void)run_alone(bounded), InvalidArgument);
  bounded.unbounded = true;
  for (const char* late : {"streaming_llm", "streaming_llm:when=stride,stride=257", "full"}) {
    schedule(late, "120");
    EXPECT_THROW((void)run_alone(bounded), InvalidArgument) << late;
  }
  // The cache outgrows the context inside the prompt: nothing is generated.
  schedule("streaming_llm:when=stride,stride=100", "0.5");
  const Completion full = run_alone(request(1000, 5));
  EXPECT_EQ(full.reason, FinishReason::kContext);
  EXPECT_TRUE(full.tokens.empty());
}

TEST_F(Streaming, ShortSequencesAreTheSameWithAndWithoutABound) {
  schedule("streaming_llm:when=always,stride=16,every=4", "40");
  Request stream = request(90, 100);
  const std::vector<TokenId> tokens = run_alone(stream).tokens;
  stream.unbounded = false;
  EXPECT_EQ(run_alone(stream).tokens, tokens);
}

TEST_F(Streaming, PositionsMustFitTheCache) {
  schedule("streaming_llm:when=both", "40");
  EXPECT_THROW((void)run_alone(request(2, kNoPosition - 1)), InvalidArgument);
}

/// Runs tokens at consecutive positions and returns the last row of the hidden states that enter
/// layer 1: what the first layer made of its cache.
std::vector<float> after_first_layer(launch::Runtime& runtime, SequenceId sequence,
                                     const std::vector<TokenId>& tokens, Position first) {
  StepRows rows;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    rows.push(tokens[i], sequence, first + static_cast<Position>(i));
  }
  std::vector<float> last;
  runtime.decoder().forward(rows, [&](std::int64_t layer, View<const float, 2> hidden) {
    if (layer != 1) return;
    const float* row = hidden.row(hidden.extent(0) - 1);
    last.assign(row, row + hidden.row_size());
  });
  return last;
}

// Keys and values of the first layer depend on their own token and position alone, so there the
// cache after the scheduler must do what a cache computed afresh at the compact positions does.
TEST_F(Streaming, TurnedKeysGiveWhatComputingThemAtCompactPositionsGives) {
  constexpr std::int64_t kSinks = 4;
  constexpr std::int64_t kBudget = 40;
  for (const std::int64_t kv_shards : {1, 8}) {
    for (const std::string dtype : {"f32", "bf16"}) {
      for (const bool is_compact : {true, false}) {
        options_.kv_shards = kv_shards;
        options_.kv_dtype = dtype;
        launch::Runtime runtime(*comm_, options_);
        const std::string spec =
            std::string("streaming_llm:positions=") + (is_compact ? "compact" : "original");
        const auto scheduler = make_policy("scheduler", scheduling::schedulers(), spec);
        SchedulingPass pass(runtime.host(), {.model = runtime.model(),
                                             .weights = runtime.weights(),
                                             .cache = runtime.cache(),
                                             .tap = runtime.tap(),
                                             .comm = *comm_,
                                             .scheduler = *scheduler,
                                             .budget = {.slots = kBudget},
                                             .recorded = {}});
        const SequenceId stream{0}, afresh{1};
        runtime.cache().add_sequence(stream);
        runtime.cache().add_sequence(afresh);
        const std::vector<TokenId> tokens = request(200, 1).prompt;
        Position next = 0;
        for (const std::int64_t step : {60, 1, 30, 100}) {
          (void)after_first_layer(runtime, stream,
                                  {tokens.begin() + next, tokens.begin() + next + step}, next);
          next += static_cast<Position>(step);
          pass.run({.id = stream, .num_computed = next, .num_context = next}, 1);
          runtime.cache().check_integrity();
        }
        std::vector<TokenId> kept(tokens.begin(), tokens.begin() + kSinks);
        kept.insert(kept.end(), tokens.begin() + next - (kBudget - kSinks), tokens.begin() + next);
        (void)after_first_layer(runtime, afresh, kept, next - static_cast<Position>(kBudget));
        const std::vector<TokenId> query = {tokens[static_cast<std::size_t>(next)]};
        const std::vector<float> expected = after_first_layer(runtime, afresh, query, next);
        const std::vector<float> actual = after_first_layer(runtime, stream, query, next);
        double largest = 0;
        for (std::size_t i = 0; i < expected.size(); ++i) {
          largest = std::max(largest, static_cast<double>(std::abs(actual[i] - expected[i])));
        }
        if (!is_compact) {
          EXPECT_GT(largest, 1e-2) << "where the keys stand makes a difference";
        } else {
          EXPECT_LT(largest, dtype == "f32" ? 1e-5 : 2e-2) << dtype << ", " << kv_shards;
        }
      }
    }
  }
}

}  // namespace
}  // namespace pikv
