// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The engine on a small mixture (qwen3_moe, context 256), on one rank.
#include "core/engine/engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr Position kSinks = 4;
constexpr Position kRecents = 20;

/// Keeps the first tokens of a sequence and its last ones (the idea of Xiao et al. 2023,
/// 2309.17453); the rest of the cache is what is to be tested.
class SinksAndRecents final : public Scheduler {
 public:
  [[nodiscard]] bool evicts() const override { return true; }
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t,
                                      const KvBudget&) const override {
    return num_computed + 1;
  }
  void score(Exec&, const LayerSlots&, std::span<std::vector<float>>) const override {}
  void select(const SequenceScores& scores, const KvBudget&,
              std::span<std::vector<std::int32_t>> evict) const override {
    for (std::size_t h = 0; h < evict.size(); ++h) {
      for (std::size_t i = 0; i < scores.heads[h].positions.size(); ++i) {
        const Position position = scores.heads[h].positions[i];
        if (position >= kSinks && position < scores.next_position - kRecents) {
          evict[h].push_back(static_cast<std::int32_t>(i));
        }
      }
    }
  }
};

class EngineTest : public testing::Test {
 protected:
  EngineTest() {
    options_.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options_.num_threads = 1;
    options_.chunk_tokens = 16;
  }

  [[nodiscard]] std::unique_ptr<launch::Runtime> runtime() {
    return std::make_unique<launch::Runtime>(*comm_, options_);
  }

  /// The parts of a runtime, with the scheduler of this test.
  class Evicting {
   public:
    explicit Evicting(launch::Runtime& parts)
        : parts_(parts),
          scheduling_(parts.host(), {.model = parts.model(),
                                     .weights = parts.weights(),
                                     .cache = parts.cache(),
                                     .tap = parts.tap(),
                                     .comm = parts.comm(),
                                     .scheduler = scheduler_,
                                     .budget = {},
                                     .recorded = {}}) {}

    [[nodiscard]] EngineParts engine_parts() {
      return {.model = parts_.model(),
              .decoder = parts_.decoder(),
              .cache = parts_.cache(),
              .comm = parts_.comm(),
              .tap = parts_.tap(),
              .scheduling = scheduling_};
    }

   private:
    launch::Runtime& parts_;
    SinksAndRecents scheduler_;
    SchedulingPass scheduling_;
  };

  [[nodiscard]] Request request(std::int64_t prompt_tokens, std::int64_t max_tokens) {
    Request request{.prompt = {}, .max_tokens = max_tokens};
    for (std::int64_t i = 0; i < prompt_tokens; ++i) {
      request.prompt.push_back(static_cast<TokenId>(random_.integer(3, 383)));
    }
    return request;
  }

  [[nodiscard]] Completion run_alone(const Request& request) {
    return runtime()->engine().run({&request, 1})[0];
  }

  Random random_{161};
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
};

TEST_F(EngineTest, MoreRequestsThanTheBatchEachEndAsAlone) {
  std::vector<Request> requests;
  std::vector<Completion> alone;
  for (const std::int64_t prompt_tokens : {1, 16, 17, 40, 3, 33, 2}) {
    requests.push_back(request(prompt_tokens, random_.integer(1, 20)));
    alone.push_back(run_alone(requests.back()));
  }
  for (const std::int64_t max_batch : {1, 2, 32}) {
    options_.max_batch = max_batch;
    const auto batched = runtime();
    std::int64_t most_sequences = 0;
    const auto completions = batched->engine().run(requests, {}, [&](std::int64_t, std::int64_t) {
      batched->cache().check_integrity();
      most_sequences = std::max(most_sequences, batched->cache().stats().num_sequences);
    });
    EXPECT_LE(most_sequences, max_batch);
    ASSERT_EQ(completions.size(), requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(completions[i].tokens, alone[i].tokens) << "request " << i << ", " << max_batch;
      EXPECT_EQ(completions[i].tokens.size(), static_cast<std::size_t>(requests[i].max_tokens));
      EXPECT_EQ(completions[i].reason, FinishReason::kMaxTokens);
    }
    EXPECT_EQ(batched->cache().page_bytes(), 0u);
  }
}

TEST_F(EngineTest, EvictionKeepsTheCacheWithinItsBudgetAndGenerationGoesOn) {
  const Request long_request = request(150, 100);
  // Room for the kept slots of every stream, an open page each, but not for the whole context.
  options_.kv_shards = 1;
  const auto full = runtime();
  (void)full->engine().run({&long_request, 1});
  const std::size_t whole = full->cache().stats().peak_page_bytes;
  options_.kv_memory.bytes = whole / 2;
  EXPECT_THROW((void)run_alone(long_request), OutOfMemory);

  const auto parts = runtime();
  Evicting evicting(*parts);
  Engine engine(evicting.engine_parts(),
                {.max_batch_sequences = 4, .chunk_tokens = options_.chunk_tokens});
  const auto completions = engine.run({&long_request, 1}, {}, [&](std::int64_t, std::int64_t) {
    parts->cache().check_integrity();
    for (const StreamId& stream : parts->cache().stream_ids()) {
      ASSERT_LE(parts->cache().positions(stream).size(), std::size_t{kSinks + kRecents});
    }
  });
  EXPECT_EQ(completions[0].tokens.size(), 100u);
  const CacheStats stats = parts->cache().stats();
  EXPECT_LE(stats.peak_page_bytes, whole / 2);
  // Of the 248 tokens before the last step, those not kept, in 3 layers of 2 heads; the sequence
  // that ends in a step is not asked about again.
  EXPECT_EQ(stats.num_evicted_slots, (248 - kSinks - kRecents) * 3 * 2);
  EXPECT_EQ(stats.page_bytes, 0u);
}

TEST_F(EngineTest, EvictionOfNothingChangesNothing) {
  const Request short_request = request(10, 14);  // never longer than what is kept
  const auto parts = runtime();
  Evicting evicting(*parts);
  Engine engine(evicting.engine_parts(), {});
  EXPECT_EQ(engine.run({&short_request, 1})[0].tokens, run_alone(short_request).tokens);
  EXPECT_EQ(parts->cache().stats().num_evicted_slots, 0);
}

TEST_F(EngineTest, ASeedNamesAText) {
  Request sampled = request(12, 30);
  sampled.sampling = {.temperature = 1.0f, .top_p = 0.95f, .seed = 9};
  const Completion first = run_alone(sampled);
  EXPECT_EQ(run_alone(sampled).tokens, first.tokens);
  options_.chunk_tokens = 5;
  options_.max_batch = 1;
  EXPECT_EQ(run_alone(sampled).tokens, first.tokens) << "however the prompt was cut";
  sampled.sampling.seed = 10;
  EXPECT_NE(run_alone(sampled).tokens, first.tokens);
}

TEST_F(EngineTest, GreedyTextsAreThoseOfTheSamplerWhateverElseIsInTheBatch) {
  Request drawn = request(11, 12);
  drawn.sampling = {.temperature = 1.0f, .top_k = 20, .seed = 5};
  Request penalized = request(7, 12);
  penalized.sampling.repetition_penalty = 1.5f;
  Request forced = request(5, 12);
  forced.forced_tokens = {8, 5, 3};
  const std::vector<Request> requests = {request(9, 12), drawn, request(20, 12), penalized, forced};
  const auto parts = runtime();
  const auto completions = parts->engine().run(requests);
  // With an observer all rows go through the sampler on the host.
  std::int64_t num_observed = 0;
  parts->engine().observe_logits(
      [&](std::size_t, std::int64_t, std::span<const float>) { ++num_observed; });
  const auto observed = parts->engine().run(requests);
  EXPECT_EQ(num_observed, 60);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(completions[i].tokens, observed[i].tokens) << "request " << i;
    // A draw depends on the place of its request.
    if (i == 1) continue;
    EXPECT_EQ(completions[i].tokens, run_alone(requests[i]).tokens) << "request " << i;
  }
}

TEST_F(EngineTest, AStopTokenEndsTheTextAndIsNotPartOfIt) {
  Request stopped = request(20, 40);
  const std::vector<TokenId> free = run_alone(stopped).tokens;
  stopped.stop_tokens = {-5, free[7]};
  const Completion completion = run_alone(stopped);
  const auto first = std::ranges::find(free, free[7]);
  EXPECT_EQ(completion.tokens, std::vector<TokenId>(free.begin(), first));
  EXPECT_EQ(completion.reason, FinishReason::kStopToken);
}

TEST_F(EngineTest, TheCallbackSeesEveryTokenAndMayEndTheText) {
  const Request asked = request(9, 12);
  const std::vector<TokenId> free = run_alone(asked).tokens;
  std::vector<TokenId> seen;
  const auto parts = runtime();
  const auto completions = parts->engine().run({&asked, 1}, [&](std::size_t i, TokenId token) {
    EXPECT_EQ(i, 0u);
    seen.push_back(token);
    return seen.size() < 5;
  });
  EXPECT_EQ(seen, std::vector<TokenId>(free.begin(), free.begin() + 5));
  EXPECT_EQ(completions[0].tokens, seen);
  EXPECT_EQ(completions[0].reason, FinishReason::kStopped);
}

TEST_F(EngineTest, ForcedTokensAreTakenForTheFirstOnesAndTheModelGoesOn) {
  const Request prompted = request(20, 6);
  Request forced = prompted;
  forced.prompt.resize(15);
  forced.forced_tokens.assign(prompted.prompt.begin() + 15, prompted.prompt.end());
  forced.max_tokens = 5 + prompted.max_tokens;
  std::vector<TokenId> expected = forced.forced_tokens;
  const std::vector<TokenId> free = run_alone(prompted).tokens;
  expected.insert(expected.end(), free.begin(), free.end());
  EXPECT_EQ(run_alone(forced).tokens, expected);
}

TEST_F(EngineTest, TheObserverSeesTheLogitsOfEachGeneratedToken) {
  const std::vector<Request> requests = {request(20, 6), request(3, 4)};
  const auto parts = runtime();
  std::vector<std::vector<TokenId>> greedy(2);
  parts->engine().observe_logits(
      [&](std::size_t request_idx, std::int64_t num_generated, std::span<const float> logits) {
        EXPECT_EQ(num_generated, static_cast<std::int64_t>(greedy[request_idx].size()));
        EXPECT_EQ(logits.size(), static_cast<std::size_t>(parts->model().vocab_size));
        greedy[request_idx].push_back(
            static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin()));
      });
  const auto completions = parts->engine().run(requests);
  for (std::size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(completions[i].tokens, greedy[i]);
  parts->engine().observe_logits({});
  (void)parts->engine().run(requests);
  EXPECT_EQ(greedy[0].size(), 6u) << "no longer called";
}

TEST_F(EngineTest, ACompletionSaysWhatItsSequenceHeld) {
  const std::vector<Request> requests = {request(40, 3), request(10, 5)};
  const auto parts = runtime();
  parts->engine().keep_finished_sequences(true);
  const auto completions = parts->engine().run(requests);
  EXPECT_GT(completions[0].kv_bytes, completions[1].kv_bytes);
  EXPECT_EQ(completions[0].kv_bytes + completions[1].kv_bytes, parts->cache().page_bytes());
}

TEST_F(EngineTest, TheEndOfTheContextEndsTheText) {
  // The last token that fits is computed at position 255; what it predicts is still given.
  const Completion completion = run_alone(request(250, 100));
  EXPECT_EQ(completion.tokens.size(), 7u);
  EXPECT_EQ(completion.reason, FinishReason::kContext);
  const Completion full = run_alone(request(256, 100));
  EXPECT_EQ(full.tokens.size(), 1u);
  EXPECT_EQ(full.reason, FinishReason::kContext);
}

TEST_F(EngineTest, FinishedSequencesStayWhenAskedUntilTheNextRun) {
  const auto parts = runtime();
  const std::vector<Request> requests = {request(5, 3), request(6, 2)};
  parts->engine().keep_finished_sequences(true);
  (void)parts->engine().run(requests);
  EXPECT_EQ(parts->cache().stats().num_sequences, 2);
  (void)parts->engine().run({requests.data(), 1});
  EXPECT_EQ(parts->cache().stats().num_sequences, 1);
}

TEST_F(EngineTest, StatisticsCountPrefillAndDecodeApart) {
  const auto parts = runtime();
  const Request asked = request(33, 10);  // three chunks of 16
  (void)parts->engine().run({&asked, 1});
  const EngineStats& stats = parts->engine().stats();
  EXPECT_EQ(stats.num_prefill_tokens, 33);
  EXPECT_EQ(stats.num_decode_tokens, 9) << "the last token is not computed";
  EXPECT_EQ(stats.num_decode_steps, 9);
  EXPECT_EQ(stats.num_steps, 12);
}

/// Requests that ask about two contexts, each several times.
class SharedContexts : public EngineTest {
 protected:
  SharedContexts() {
    for (const std::int64_t context : {70, 33}) {
      const Request common = request(context, 1);
      for (std::int64_t i = 0; i < 3; ++i) {
        Request asked = request(1 + 2 * i, 4 + 5 * i);
        asked.prompt.insert(asked.prompt.begin(), common.prompt.begin(), common.prompt.end());
        asked.context_tokens = context;
        requests_.push_back(std::move(asked));
      }
    }
  }
  [[nodiscard]] std::vector<Request> sharing() const {
    std::vector<Request> requests = requests_;
    for (const std::size_t i : {1u, 2u}) requests[i].start = {.request_idx = 0};
    for (const std::size_t i : {4u, 5u}) requests[i].start = {.request_idx = 3};
    return requests;
  }

  std::vector<Request> requests_;
};

TEST_F(SharedContexts, EndAsContextsOfTheirOwn) {
  options_.budget_text = "0.4";
  for (const char* scheduler : {"full", "tova", "reach", "kvzip:chunk=30"}) {
    for (const std::int64_t max_batch : {1, 2, 32}) {
      SCOPED_TRACE(testing::Message() << scheduler << ", batches of " << max_batch);
      options_.scheduler = scheduler;
      options_.max_batch = max_batch;
      const auto apart = runtime();
      const auto together = runtime();
      const auto expected = apart->engine().run(requests_);
      const auto completions =
          together->engine().run(sharing(), {}, [&](std::int64_t done, std::int64_t known) {
            together->cache().check_integrity();
            EXPECT_LE(done, known);
          });
      for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(completions[i].tokens, expected[i].tokens) << "request " << i;
        EXPECT_EQ(completions[i].kv_bytes, expected[i].kv_bytes) << "request " << i;
      }
      const auto num_computed = [](const EngineStats& stats) {
        return stats.num_prefill_tokens + stats.num_decode_tokens;
      };
      EXPECT_EQ(num_computed(apart->engine().stats()) - num_computed(together->engine().stats()),
                2 * 70 + 2 * 33);
      EXPECT_EQ(together->cache().stats().num_sequences, 0);
      EXPECT_EQ(together->cache().page_bytes(), 0u);
    }
  }
}

TEST_F(SharedContexts, AConversationIsOneLongSequence) {
  // A prompt, what it was answered, the next prompt: as one prompt, or bit by bit.
  const std::vector<Request> turns = [&] {
    std::vector<Request> result = {request(40, 5), request(7, 6), request(1, 4)};
    result[1].start = {.request_idx = 0, .with_answer = true};
    result[2].start = {.request_idx = 1, .with_answer = true};
    return result;
  }();
  const auto parts = runtime();
  const auto completions = parts->engine().run(turns);
  Request whole = turns[0];
  for (std::size_t i = 0; i < turns.size(); ++i) {
    if (i > 0)
      whole.prompt.insert(whole.prompt.end(), turns[i].prompt.begin(), turns[i].prompt.end());
    whole.max_tokens = turns[i].max_tokens;
    EXPECT_EQ(completions[i].tokens, run_alone(whole).tokens) << "turn " << i;
    whole.prompt.insert(whole.prompt.end(), completions[i].tokens.begin(),
                        completions[i].tokens.end());
  }
  EXPECT_EQ(parts->engine().stats().num_prefill_tokens, 40 + 1 + 7 + 1 + 1)
      << "the last token of an answer is computed with the next prompt";
  EXPECT_EQ(parts->cache().page_bytes(), 0u);
}

TEST_F(SharedContexts, ATurnThatDoesNotFitEndsWithoutAToken) {
  std::vector<Request> turns = {request(250, 3), request(10, 4), request(2, 2)};
  turns[1].start = {.request_idx = 0, .with_answer = true};
  turns[2].start = {.request_idx = 1, .with_answer = true};
  const auto parts = runtime();
  const auto completions = parts->engine().run(turns);
  EXPECT_TRUE(completions[1].tokens.empty());
  EXPECT_EQ(completions[1].reason, FinishReason::kContext);
  EXPECT_EQ(completions[2].tokens.size(), 2u) << "it follows what fitted";
  EXPECT_EQ(parts->cache().page_bytes(), 0u);
}

TEST_F(SharedContexts, HistoriesSayWhatIsInTheCaches) {
  options_.budget_text = "0.3";
  std::vector<Request> requests = sharing();
  requests.push_back(request(30, 9));
  requests.push_back(request(20, 9));
  requests.back().start = {.request_idx = 6, .with_answer = true};
  for (const char* scheduler : {"full", "random:when=both,every=3", "keydiff:when=always,stride=9",
                                "streaming_llm:positions=compact,when=always,stride=9,every=2"}) {
    SCOPED_TRACE(scheduler);
    options_.scheduler = scheduler;
    const auto parts = runtime();
    parts->engine().keep_finished_sequences(true);
    EXPECT_TRUE(parts->engine().run(requests)[0].computed.empty()) << "nobody asked";
    parts->engine().keep_histories(true);
    const Request other = request(77, 9);  // of the same number, and forgotten with its sequence
    (void)parts->engine().run({&other, 1});
    const auto completions = parts->engine().run(requests);
    const bool moves = std::string_view(scheduler).find("compact") != std::string_view::npos;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const Completion& completion = completions[i];
      const auto num_computed = static_cast<Position>(completion.computed.size());
      const Request& first = requests[i == 7 ? 6 : i];
      EXPECT_TRUE(std::ranges::equal(std::span(completion.computed).first(first.prompt.size()),
                                     first.prompt));
      for (std::int64_t layer = 0; layer < parts->model().num_layers; ++layer) {
        for (std::int64_t h = 0; h < parts->model().num_kv_heads; ++h) {
          KvCache::HeadContents slots;
          parts->cache().read_slots(id_from<SequenceId>(i), id_from<LayerId>(layer),
                                    id_from<HeadId>(h), false, false, slots);
          std::ranges::sort(slots.positions);
          const auto gone = completion.evictions.gone_after(
              static_cast<std::size_t>(layer * parts->model().num_kv_heads + h));
          std::vector<Position> left;
          for (Position p = 0; p < num_computed; ++p) {
            const auto at = static_cast<std::size_t>(p);
            if (at >= gone.size() || gone[at] == kNoPosition) left.push_back(p);
          }
          if (moves) {
            EXPECT_EQ(slots.positions.size(), left.size()) << "request " << i;
          } else {
            EXPECT_EQ(slots.positions, left) << "request " << i;
          }
        }
      }
    }
    parts->engine().keep_histories(false);
    EXPECT_TRUE(parts->engine().run(requests)[0].computed.empty());
  }
}

TEST_F(SharedContexts, AFullPoolLeavesNothingBehind) {
  const std::vector<Request> requests = sharing();
  options_.kv_shards = 1;
  const auto large = runtime();
  (void)large->engine().run(requests);
  const std::size_t peak = large->cache().stats().peak_page_bytes;
  for (const std::size_t percent : {30u, 60u, 90u}) {
    options_.kv_memory.bytes = peak * percent / 100;
    const auto parts = runtime();
    EXPECT_THROW((void)parts->engine().run(requests), OutOfMemory) << percent;
    EXPECT_EQ(parts->cache().page_bytes(), 0u);
    EXPECT_EQ(parts->cache().stats().num_sequences, 0);
  }
}

TEST_F(SharedContexts, MustBeThere) {
  const auto parts = runtime();
  const auto refused = [&](const std::function<void(std::vector<Request>&)>& change) {
    std::vector<Request> requests = sharing();
    change(requests);
    EXPECT_THROW(parts->engine().check_requests(requests), InvalidArgument);
  };
  refused([](auto& requests) { requests[1].start->request_idx = 1; });
  refused([](auto& requests) { requests[1].start->request_idx = 3; });
  refused([](auto& requests) { requests[2].start->request_idx = 1; });
  refused([](auto& requests) { requests[1].context_tokens = 69; });
  refused([](auto& requests) { requests[1].context_tokens.reset(); });
  refused([](auto& requests) { requests[1].prompt[3] ^= 1; });
  refused([](auto& requests) { requests[1].prompt.resize(70); });
  refused([](auto& requests) { requests[1].start->with_answer = true; });
}

TEST_F(EngineTest, ASecondReadingLeavesTheSequenceAsItWas) {
  Request asked = request(90, 12);
  options_.scheduler = "kvzip:chunk=40,overlap=8";
  options_.budget_text = "1.0";
  const auto parts = runtime();
  const auto completions = parts->engine().run({&asked, 1});
  EXPECT_EQ(parts->engine().stats().num_reread_tokens, 40 + 48 + 18);
  EXPECT_EQ(parts->cache().stats().num_evicted_slots, 0);
  EXPECT_EQ(parts->cache().page_bytes(), 0u);
  options_.scheduler = "full";
  EXPECT_EQ(completions[0].tokens, run_alone(asked).tokens);
}

TEST_F(EngineTest, ASecondReadingNeedsRoomForACopy) {
  const Request asked = request(90, 12);
  options_.kv_shards = 1;
  const auto full = runtime();
  (void)full->engine().run({&asked, 1});
  options_.scheduler = "kvzip";
  options_.budget_text = "0.5";
  options_.kv_memory.bytes = full->cache().stats().peak_page_bytes * 3 / 2;
  const auto parts = runtime();
  EXPECT_THROW((void)parts->engine().run({&asked, 1}), OutOfMemory);
  EXPECT_EQ(parts->cache().page_bytes(), 0u);
  EXPECT_EQ(parts->cache().stats().num_sequences, 0);
}

TEST_F(EngineTest, ImpossibleRequestsAreRefusedBeforeAnythingRuns) {
  const auto parts = runtime();
  const Request good = request(4, 4);
  const auto refused = [&](const Request& bad) {
    const std::vector<Request> both = {good, bad};
    EXPECT_THROW((void)parts->engine().run(both), InvalidArgument);
    EXPECT_EQ(parts->engine().stats().num_steps, 0);
  };
  refused({.prompt = {}, .max_tokens = 4});
  refused({.prompt = {1}, .max_tokens = 0});
  refused({.prompt = {384}, .max_tokens = 4});
  refused({.prompt = {-1}, .max_tokens = 4});
  refused(request(257, 4));
  refused({.prompt = {1}, .max_tokens = 4, .forced_tokens = {2, 384}});
  refused({.prompt = {1}, .max_tokens = 4, .forced_tokens = std::vector<TokenId>(257, 2)});
  refused({.prompt = {1}, .max_tokens = 4, .sampling = {.temperature = -1.0f}});
  EXPECT_TRUE(parts->engine().run({}).empty());
}

TEST_F(EngineTest, AnEngineWorksAgainAfterItsPoolWasFull) {
  // Pages are of 4160 bytes. The small request opens at most one in each of 3 layers, 8 shards and
  // 2 heads, 48 in all; the large one fills at least 75.
  options_.kv_memory.bytes = 60 * 4160;
  const auto parts = runtime();
  const Request large = request(200, 4);
  const Request small = request(5, 4);
  ASSERT_THROW((void)parts->engine().run({&large, 1}), OutOfMemory);
  options_.kv_memory = {};
  EXPECT_EQ(parts->engine().run({&small, 1})[0].tokens, run_alone(small).tokens);
}

}  // namespace
}  // namespace pikv
