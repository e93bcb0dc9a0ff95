// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// When sequences get coordinates of their own, in a whole model on one rank.
#include "core/engine/fit_sequence.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

class FitSequence : public testing::Test {
 protected:
  FitSequence() {
    options_.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options_.num_threads = 1;
    options_.chunk_tokens = 24;
    options_.kv_shards = 2;
    options_.codec = "svd:rank=16";  // of 32
  }

  [[nodiscard]] std::unique_ptr<launch::Runtime> runtime() {
    return std::make_unique<launch::Runtime>(*comm_, options_);
  }

  [[nodiscard]] Request request(std::int64_t prompt_tokens, std::int64_t max_tokens) {
    Request request{.prompt = {}, .max_tokens = max_tokens};
    for (std::int64_t i = 0; i < prompt_tokens; ++i) {
      request.prompt.push_back(static_cast<TokenId>(random_.integer(3, 383)));
    }
    return request;
  }

  Random random_{651};
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
};

TEST_F(FitSequence, HappensOnceWhenThePromptIsComplete) {
  const Request asked = request(100, 12);
  const auto parts = runtime();
  const Basis* basis = nullptr;
  (void)parts->engine().run({&asked, 1}, {}, [&](std::int64_t done, std::int64_t) {
    parts->cache().check_integrity();
    if (done >= 111) return;  // it has ended
    const Basis* now = parts->cache().basis_of(SequenceId{0});
    EXPECT_EQ(now != nullptr, done >= 100) << done;
    EXPECT_TRUE(basis == nullptr || now == basis) << "it does not change";
    basis = now;
  });
  EXPECT_NE(basis, nullptr);
  EXPECT_EQ(parts->cache().stats().table_bytes, 0u) << "it goes with the sequence";
}

TEST_F(FitSequence, ABatchEndsAsItsSequencesAlone) {
  std::vector<Request> requests;
  std::vector<Completion> alone;
  for (const std::int64_t prompt_tokens : {100, 3, 61, 15, 16, 17, 130}) {
    requests.push_back(request(prompt_tokens, 20));
    alone.push_back(runtime()->engine().run({&requests.back(), 1})[0]);
  }
  for (const char* scheduler : {"full", "keydiff"}) {
    options_.scheduler = scheduler;
    for (const std::int64_t max_batch : {1, 3, 32}) {
      options_.max_batch = max_batch;
      const auto parts = runtime();
      const auto completions = parts->engine().run(requests);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(completions[i].tokens, alone[i].tokens) << "request " << i << ", " << max_batch;
        EXPECT_EQ(completions[i].kv_bytes, alone[i].kv_bytes) << "request " << i;
      }
    }
  }
}

TEST_F(FitSequence, PromptsOfLessThanAPageStayWhole) {
  const Request asked = request(15, 100);
  const Completion completion = runtime()->engine().run({&asked, 1})[0];
  options_.codec = "none:dtype=bf16";
  const Completion whole = runtime()->engine().run({&asked, 1})[0];
  EXPECT_EQ(completion.tokens, whole.tokens);
  EXPECT_EQ(completion.kv_bytes, whole.kv_bytes);
}

TEST_F(FitSequence, RequestsThatBeginWithAContextAreInItsBasis) {
  const Request common = request(90, 1);
  std::vector<Request> apart;
  for (std::int64_t i = 0; i < 3; ++i) {
    Request asked = request(1 + 2 * i, 4 + 9 * i);
    asked.prompt.insert(asked.prompt.begin(), common.prompt.begin(), common.prompt.end());
    asked.context_tokens = 90;
    apart.push_back(std::move(asked));
  }
  std::vector<Request> together = apart;
  for (const std::size_t i : {1u, 2u}) together[i].start = {.request_idx = 0};
  options_.budget_text = "0.6";
  for (const char* scheduler : {"full", "keydiff", "h2o", "kvzip:chunk=30"}) {
    for (const std::int64_t max_batch : {1, 3}) {
      SCOPED_TRACE(testing::Message() << scheduler << ", batches of " << max_batch);
      options_.scheduler = scheduler;
      options_.max_batch = max_batch;
      const auto expected = runtime()->engine().run(apart);
      const auto parts = runtime();
      const auto completions = parts->engine().run(
          together, {}, [&](std::int64_t, std::int64_t) { parts->cache().check_integrity(); });
      for (std::size_t i = 0; i < apart.size(); ++i) {
        EXPECT_EQ(completions[i].tokens, expected[i].tokens) << "request " << i;
        EXPECT_EQ(completions[i].kv_bytes, expected[i].kv_bytes) << "request " << i;
      }
      EXPECT_EQ(parts->cache().page_bytes(), 0u);
    }
  }
}

TEST_F(FitSequence, KeysBeforeRopeInABatchAndInAContextAreThoseOfSequencesAlone) {
  options_.codec = "svd:rank=16,rope=before/none:dtype=bf16";
  const Request common = request(90, 1);
  std::vector<Request> apart;
  for (std::int64_t i = 0; i < 3; ++i) {
    Request asked = request(1 + 2 * i, 4 + 9 * i);
    asked.prompt.insert(asked.prompt.begin(), common.prompt.begin(), common.prompt.end());
    asked.context_tokens = 90;
    apart.push_back(std::move(asked));
  }
  std::vector<Request> together = apart;
  for (const std::size_t i : {1u, 2u}) together[i].start = {.request_idx = 0};
  std::vector<Completion> alone;
  for (const Request& asked : apart) alone.push_back(runtime()->engine().run({&asked, 1})[0]);
  const auto parts = runtime();
  const auto completions = parts->engine().run(
      together, {}, [&](std::int64_t, std::int64_t) { parts->cache().check_integrity(); });
  for (std::size_t i = 0; i < apart.size(); ++i) {
    EXPECT_EQ(completions[i].tokens, alone[i].tokens) << "request " << i;
    EXPECT_EQ(completions[i].kv_bytes, alone[i].kv_bytes) << "request " << i;
  }
  EXPECT_EQ(parts->cache().stats().table_bytes, 0u);
}

TEST_F(FitSequence, AConversationStaysInTheBasisOfItsFirstPrompt) {
  std::vector<Request> turns = {request(80, 6), request(40, 6)};
  turns[1].start = {.request_idx = 0, .with_answer = true};
  const auto parts = runtime();
  parts->engine().keep_finished_sequences(true);
  const Basis* first = nullptr;
  (void)parts->engine().run(turns, {}, [&](std::int64_t done, std::int64_t) {
    parts->cache().check_integrity();
    if (done == 80) first = parts->cache().basis_of(SequenceId{0});
  });
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(parts->cache().basis_of(SequenceId{1}), first);
}

// What whole pages fit in, fits; narrow ones are taken where there is room to write them.
TEST_F(FitSequence, APoolWithoutRoomGoesOnWithWholePages) {
  const Request asked = request(200, 50);
  const auto run = [&](const char* codec, std::size_t budget_bytes) -> std::optional<Completion> {
    options_.codec = codec;
    options_.kv_memory.bytes = budget_bytes;
    const auto parts = runtime();
    try {
      return parts->engine().run({&asked, 1})[0];
    } catch (const OutOfMemory&) {
      EXPECT_EQ(parts->cache().page_bytes(), 0u);
      return std::nullopt;
    }
  };
  int num_whole = 0;
  int num_fitted = 0;
  for (std::size_t kib = 64; kib < 1024; kib += 20) {
    const auto whole = run("none:dtype=bf16", kib * 1024);
    const auto fitted = run("svd:rank=16", kib * 1024);
    ASSERT_GE(fitted.has_value(), whole.has_value()) << kib << " KiB";
    if (!whole) continue;
    const bool is_whole = fitted->kv_bytes == whole->kv_bytes;
    EXPECT_TRUE(!is_whole || fitted->tokens == whole->tokens);
    (is_whole ? num_whole : num_fitted) += 1;
  }
  EXPECT_GT(num_whole, 0);
  EXPECT_GT(num_fitted, 0);
}

}  // namespace
}  // namespace pikv
