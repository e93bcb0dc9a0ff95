// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// adakv with a target: the budget of a sequence follows the share of scores that stays, on scores
// that are made up and, as a sequence's own state, in the engine.
#include "scheduling/feedback.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"
#include "scheduling/composed.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/random.hpp"

namespace pikv::scheduling {
namespace {

using Evicted = std::vector<std::vector<std::int32_t>>;

constexpr std::int64_t kKvHeads = 2;

std::unique_ptr<const Scheduler> adakv(const std::string& options) {
  return make_policy("scheduler", schedulers(), "adakv:" + options);
}

/// The same over any scores.
std::unique_ptr<const Scheduler> ada_with(const Feedback& feedback) {
  PolicyOptions none;
  auto scorer = make_recency(none);
  return make_feedback(compose(std::move(scorer), make_ada_allocator(0.2), none,
                               make_top_selector(), {.when = "always"}),
                       feedback);
}

SequenceScores sequence(const std::vector<std::vector<float>>& scores) {
  SequenceScores result{.sequence = SequenceId{1},
                        .next_position = static_cast<Position>(scores[0].size()),
                        .num_context = 0,
                        .num_kv_heads = kKvHeads,
                        .heads = {}};
  for (const std::vector<float>& head : scores) {
    HeadScores& to = result.heads.emplace_back();
    to.scores = head;
    to.positions.resize(head.size());
    std::iota(to.positions.begin(), to.positions.end(), Position{0});
  }
  return result;
}

/// Two layers of heads whose i-th best score is i^-steepness, each in an order of its own; the
/// second head of a layer has `second` times the scores of the first.
SequenceScores power_law(double steepness, double second, std::size_t size,
                         testing_support::Random& random) {
  std::vector<std::vector<float>> scores(2 * kKvHeads);
  for (std::size_t h = 0; h < scores.size(); ++h) {
    for (std::size_t i = 0; i < size; ++i) {
      const double score = std::pow(static_cast<double>(i + 1), -steepness);
      scores[h].push_back(static_cast<float>(h % 2 == 0 ? score : second * score));
    }
    for (std::size_t i = size; i-- > 1;) {
      std::swap(scores[h][i],
                scores[h][static_cast<std::size_t>(random.integer(0, static_cast<long>(i)))]);
    }
  }
  return sequence(scores);
}

/// A sequence that is scheduled again and again.
class Runs {
 public:
  Runs(const Feedback& feedback, const KvBudget& budget)
      : scheduler_(ada_with(feedback)), budget_(budget) {}

  /// Returns the share of the scores that stays.
  double run(const SequenceScores& scores) {
    const KvBudget budget = budget_.scaled(feedback_.budget_factor);
    Evicted evict(scores.heads.size());
    scheduler_->select(scores, budget, evict);
    double kept = 0;
    double all = 0;
    const auto size = static_cast<std::int64_t>(scores.next_position);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      std::int64_t count = 0;
      for (std::size_t h = 2 * layer; h < 2 * layer + 2; ++h) {
        const HeadScores& head = scores.heads[h];
        const std::int64_t left = size - static_cast<std::int64_t>(evict[h].size());
        EXPECT_GE(left, std::min(size, budget.of(size, size)) / 5) << "the floor of a head";
        count += left;
        for (std::size_t i = 0; i < head.scores.size(); ++i) {
          all += static_cast<double>(head.scores[i]);
          if (std::ranges::binary_search(evict[h], static_cast<std::int32_t>(i))) continue;
          kept += static_cast<double>(head.scores[i]);
        }
      }
      EXPECT_EQ(count, kKvHeads * budget.of(size, size)) << "the budget of a layer, exactly";
    }
    scheduler_->adapt(scores, evict, feedback_);
    return kept / all;
  }
  [[nodiscard]] double factor() const { return feedback_.budget_factor; }

 private:
  std::unique_ptr<const Scheduler> scheduler_;
  KvBudget budget_;
  SequenceFeedback feedback_;
};

TEST(Feedback, IsTheRuleOfThePaper) {
  Runs runs({.target = 0.9, .gain = 0.5}, {.slots = 2});
  const SequenceScores scores = sequence({{4, 3, 2, 1}, {4, 3, 2, 1}, {0, 0, 0, 0}, {0, 0, 0, 0}});
  EXPECT_NEAR(runs.run(scores), 0.7, 1e-9);
  EXPECT_NEAR(runs.factor(), 1.1, 1e-9);
  EXPECT_NEAR(runs.run(scores), 0.7, 1e-9) << "2.2 slots are 2";
  EXPECT_NEAR(runs.factor(), 1.2, 1e-9);
  EXPECT_NEAR(runs.run(scores), 0.7, 1e-9);
  EXPECT_NEAR(runs.factor(), 1.3, 1e-9);
  EXPECT_NEAR(runs.run(scores), 0.9, 1e-9) << "2.6 are 3";
  EXPECT_NEAR(runs.factor(), 1.3, 1e-9);
}

TEST(Feedback, FollowsScoresWhoseMassMoves) {
  testing_support::Random random(71);
  for (const KvBudget& budget : {KvBudget{.fraction = 0.25}, KvBudget{.slots = 100}}) {
    Runs runs({.target = 0.9, .gain = 1}, budget);
    double last = 0;
    // Steep, then flat, then in one head of two, then steep again.
    for (const auto& [steepness, second] :
         {std::pair{1.4, 1.0}, {0.3, 1.0}, {0.6, 0.05}, {1.4, 1.0}}) {
      double before = 0;
      for (int i = 0; i < 100; ++i) {
        const double kept = runs.run(power_law(steepness, second, 400, random));
        if (i == 0) before = kept;
        last = kept;
      }
      EXPECT_GT(std::abs(before - 0.9), 0.02) << "the test begins away from the target";
      EXPECT_NEAR(last, 0.9, 0.01) << "steepness " << steepness;
      EXPECT_GT(runs.factor(), 0.25);
      EXPECT_LT(runs.factor(), 4.0);
    }
  }
}

TEST(Feedback, StaysWithinItsLimits) {
  testing_support::Random random(72);
  Runs steep({.target = 0.5, .gain = 2, .least = 0.75, .most = 1.5}, {.fraction = 0.25});
  Runs flat({.target = 1, .gain = 2, .least = 0.75, .most = 1.5}, {.fraction = 0.25});
  for (int i = 0; i < 20; ++i) {
    steep.run(power_law(3, 1, 100, random));
    flat.run(power_law(0, 1, 100, random));
    EXPECT_GE(steep.factor(), 0.75);
    EXPECT_LE(flat.factor(), 1.5);
  }
  EXPECT_EQ(steep.factor(), 0.75);
  EXPECT_EQ(flat.factor(), 1.5);
}

TEST(Feedback, IsTheSameInAnyOrderOfTheSlots) {
  testing_support::Random random(73);
  const auto scheduler = ada_with({.target = 0.9});
  const auto factor = [&](const SequenceScores& of) {
    Evicted evict(of.heads.size());
    SequenceFeedback feedback;
    scheduler->select(of, {.fraction = 0.02}, evict);
    scheduler->adapt(of, evict, feedback);
    return feedback.budget_factor;
  };
  for (int i = 0; i < 50; ++i) {
    // Small and large ones, so that a sum may depend on its order.
    SequenceScores scores = power_law(0.1, 1, 257, random);
    for (HeadScores& head : scores.heads) {
      for (float& score : head.scores) {
        score *= std::exp(-static_cast<float>(random.integer(0, 2000)) / 100.0f);
      }
    }
    SequenceScores turned = scores;
    for (HeadScores& head : turned.heads) {
      std::ranges::reverse(head.positions);
      std::ranges::reverse(head.scores);
    }
    EXPECT_EQ(factor(scores), factor(turned)) << "to the last bit";
    EXPECT_NE(factor(scores), 1.0);
  }
}

TEST(Feedback, NeedsAMass) {
  Runs runs({.target = 0.9}, {.slots = 1});
  EXPECT_THROW((void)runs.run(sequence({{1, 2}, {-1, 2}, {1, 2}, {1, 2}})), InvalidArgument);
  (void)runs.run(sequence({{0, 0}, {0, 0}, {0, 0}, {0, 0}}));
  EXPECT_EQ(runs.factor(), 1.0) << "no share of nothing";
}

TEST(Feedback, IsOffUnlessThereIsATargetAndASecondRun) {
  SequenceFeedback feedback;
  const SequenceScores scores = sequence({{1, 2}, {1, 2}, {1, 2}, {1, 2}});
  adakv("floor=0.2")->adapt(scores, Evicted{{0}, {0}, {0}, {0}}, feedback);
  EXPECT_EQ(feedback.budget_factor, 1.0);
  EXPECT_EQ(adakv("floor=0.2")->next_run(100, 100, {}), Scheduler::kNever);
  EXPECT_EQ(adakv("target=0.9")->next_run(100, 100, {}), 164);
  EXPECT_EQ(adakv("target=0.9")->next_run(0, 2000, {}), 512);
  EXPECT_NO_THROW((void)adakv("target=0.9,when=stride"));
  for (const char* scorer : {"tova", "h2o", "observed_attention"}) {
    EXPECT_NO_THROW((void)adakv(std::string("target=0.9,scorer=") + scorer));
  }
  for (const char* options :
       {"target=0.9,when=prefill", "target=0", "target=1.1", "gain=0.5", "target=0.9,gain=0",
        "target=0.9,least=2", "target=0.9,most=0.5", "target=0.9,scorer=keydiff"}) {
    EXPECT_THROW((void)adakv(options), InvalidArgument) << options;
  }
}

TEST(Budgets, AreScaledWithinWhatIsPossible) {
  EXPECT_EQ(KvBudget{.fraction = 0.25}.scaled(2).fraction, 0.5);
  EXPECT_EQ(KvBudget{.fraction = 0.25}.scaled(5).fraction, 1.0);
  EXPECT_EQ(KvBudget{.slots = 10}.scaled(0.25).slots, 3) << "2.5 is rounded";
  EXPECT_EQ(KvBudget{.slots = 1}.scaled(0.1).slots, 1);
  const std::int64_t all = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(KvBudget{.slots = all}.scaled(4).of(7, 7), 7);
  EXPECT_EQ(KvBudget{}.scaled(0.5).of(7, 7), 7);
}

/// Sequences of a small mixture (qwen3_moe), scheduled in every few tokens.
class FeedbackOfSequences : public testing::Test {
 protected:
  FeedbackOfSequences() {
    options_.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options_.num_threads = 1;
    options_.chunk_tokens = 16;
    options_.budget_text = "0.4";
    options_.scheduler = "adakv:target=0.95,gain=1,window=4,stride=9,every=3";
  }

  [[nodiscard]] static Request request(std::uint32_t seed, std::int64_t length,
                                       std::int64_t max_tokens) {
    testing_support::Random random(seed);
    Request result{.prompt = {}, .max_tokens = max_tokens};
    for (std::int64_t i = 0; i < length; ++i) {
      result.prompt.push_back(static_cast<TokenId>(random.integer(3, 383)));
    }
    return result;
  }
  struct Outcome {
    std::vector<Completion> completions;
    std::vector<double> factors;
  };
  [[nodiscard]] Outcome run(const std::vector<Request>& requests) const {
    launch::Runtime runtime(*comm_, options_);
    runtime.engine().keep_finished_sequences(true);
    Outcome outcome{.completions = runtime.engine().run(requests), .factors = {}};
    for (std::size_t i = 0; i < requests.size(); ++i) {
      outcome.factors.push_back(
          runtime.scheduling().feedback(id_from<SequenceId>(i)).budget_factor);
    }
    return outcome;
  }

  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
};

TEST_F(FeedbackOfSequences, IsOfEachSequenceAlone) {
  const std::vector<Request> requests = {request(1, 60, 9), request(2, 90, 20), request(3, 12, 5)};
  const Outcome together = run(requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Outcome alone = run({requests[i]});
    EXPECT_NEAR(together.factors[i], alone.factors[0], 1e-6);
    EXPECT_EQ(together.completions[i].kv_bytes, alone.completions[0].kv_bytes);
    EXPECT_NE(together.factors[i], 1.0);
  }
  EXPECT_NE(together.factors[0], together.factors[1]);
}

TEST_F(FeedbackOfSequences, GoesOnInACopy) {
  const std::vector<Request> turns = [&] {
    std::vector<Request> result = {request(1, 60, 9), request(2, 5, 20), request(3, 12, 5)};
    result[1].start = {.request_idx = 0, .with_answer = true};
    result[2].start = {.request_idx = 0, .with_answer = true};
    return result;
  }();
  const Outcome talk = run(turns);
  for (const std::size_t i : {1u, 2u}) {
    // The same as one text that is given.
    Request whole = turns[0];
    whole.context_tokens = 60;
    const std::vector<TokenId>& answer = talk.completions[0].tokens;
    whole.forced_tokens = answer;
    const auto& prompt = turns[i].prompt;
    whole.forced_tokens.insert(whole.forced_tokens.end(), prompt.begin(), prompt.end());
    const auto& last = talk.completions[i].tokens;
    whole.forced_tokens.insert(whole.forced_tokens.end(), last.begin(), last.end());
    whole.max_tokens = static_cast<std::int64_t>(whole.forced_tokens.size());
    EXPECT_NEAR(run({whole}).factors[0], talk.factors[i], 1e-6) << "turn " << i;
    EXPECT_NE(talk.factors[i], talk.factors[0]);
  }
}

TEST_F(FeedbackOfSequences, IsForgottenWithTheSequenceAndWithTheScheduler) {
  const std::vector<Request> requests = {request(1, 60, 30)};
  options_.later_schedulers = {options_.scheduler};
  launch::Runtime runtime(*comm_, options_);
  const auto factor = [&] { return runtime.scheduling().feedback(SequenceId{0}).budget_factor; };
  bool has_switched = false;
  (void)runtime.engine().run(requests, {}, [&](std::int64_t done, std::int64_t) {
    if (done == 36) {
      EXPECT_NE(factor(), 1.0);
    }
    if (done < 70 || has_switched) return;
    has_switched = true;
    EXPECT_NE(factor(), 1.0);
    runtime.switch_scheduler(options_.scheduler, "0.4");
    EXPECT_EQ(factor(), 1.0);
  });
  EXPECT_TRUE(has_switched);
  EXPECT_EQ(factor(), 1.0) << "its sequence has gone";
}

}  // namespace
}  // namespace pikv::scheduling
