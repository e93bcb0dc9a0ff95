// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "launch/runtime.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kDim = 6;
constexpr std::array<float, kDim / 2> kFrequencies = {1.0f, 0.05f, 0.002f};

/// One KV head: keys before RoPE, positions, what each slot received from afar, what evicted ones
/// did.
struct Head {
  std::vector<Position> positions;
  std::vector<float> keys;  // [n, D]
  std::vector<float> far;
  std::vector<double> evicted = {0.0};
  std::vector<float> mean = std::vector<float>(kDim);
  float mean_square = 1;

  /// Channels d and d + D / 2 turned by position * frequency.
  [[nodiscard]] std::vector<float> rotated() const {
    std::vector<float> result = keys;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      for (std::size_t d = 0; d < kDim / 2; ++d) {
        const double angle = double{kFrequencies[d]} * positions[i];
        const double low = keys[i * kDim + d];
        const double high = keys[i * kDim + d + kDim / 2];
        result[i * kDim + d] = static_cast<float>(low * std::cos(angle) - high * std::sin(angle));
        result[i * kDim + d + kDim / 2] =
            static_cast<float>(high * std::cos(angle) + low * std::sin(angle));
      }
    }
    return result;
  }
};

std::vector<float> score(const Head& head, Position next) {
  const auto scheduler = make_policy("scheduler", scheduling::schedulers(), "reach");
  Exec exec = Exec::cpu(1);
  const std::vector<float> keys = head.rotated();
  const auto n = static_cast<std::int64_t>(head.positions.size());
  const HeadSlots slots{
      .positions = head.positions,
      .keys = {keys.data(), {n, kDim}},
      .values = {},
      .columns = {head.far.data(), {n, 1}},
      .evicted_columns = head.evicted,
      .key_moments = {.count = next, .mean = head.mean, .mean_square_deviation = head.mean_square}};
  std::vector<std::vector<float>> scores(1, std::vector<float>(head.positions.size()));
  scheduler->score(exec,
                   {.sequence = SequenceId{0},
                    .layer = LayerId{0},
                    .next_position = next,
                    .num_context = next,
                    .heads = {&slots, 1},
                    .budget = {.fraction = 0.1},
                    .inverse_frequencies = kFrequencies,
                    .columns = scheduler->needs().columns},
                   scores);
  return scores[0];
}

Head random_head(Random& random, Position next, std::int64_t gap) {
  Head head;
  for (Position p = 0; p < next; ++p) {
    if (random.integer(0, gap) == 0) head.positions.push_back(p);
  }
  const auto n = static_cast<std::int64_t>(head.positions.size());
  head.keys = random.normals(n * kDim);
  head.mean = random.normals(kDim);
  head.mean_square = 3.5f;
  for (std::int64_t i = 0; i < n; ++i) head.far.push_back(std::abs(random.normals(1)[0]));
  return head;
}

TEST(Reach, IsTheMeanOfFarAttentionTimesTheDeviationOfTheKey) {
  Random random(311);
  for (const std::int64_t gap : {0, 2, 90}) {
    Head head = random_head(random, 500, gap);
    head.evicted = {7.25};
    const std::vector<float> scores = score(head, 500);
    double reach = 7.25;
    for (std::size_t i = 0; i < head.far.size(); ++i) {
      if (head.positions[i] >= 4) reach += double{head.far[i]};
    }
    reach /= 500;
    std::vector<double> deviations;
    for (std::size_t i = 0; i < head.positions.size(); ++i) {
      double squares = 0;
      for (std::size_t d = 0; d < kDim; ++d) {
        squares += std::pow(double{head.keys[i * kDim + d]} - double{head.mean[d]}, 2);
      }
      deviations.push_back(squares / double{head.mean_square});
    }
    for (std::size_t i = 0; i < scores.size(); ++i) {
      double sum = 0;
      double count = 0;
      for (std::size_t j = 0; j < scores.size(); ++j) {
        if (std::abs(head.positions[j] - head.positions[i]) > 1) continue;
        sum += deviations[j];
        ++count;
      }
      ASSERT_NEAR(double{scores[i]}, reach * sum / count, 1e-4 * reach * sum) << "slot " << i;
    }
  }
}

TEST(Reach, EqualKeysHaveEqualScoresAndNothingSeenHasNone) {
  Random random(312);
  Head head = random_head(random, 40, 0);
  head.mean_square = 0;
  const std::vector<float> scores = score(head, 40);
  EXPECT_FLOAT_EQ(scores[5], scores[20]);
  EXPECT_GT(scores[5], 0.0f);
  EXPECT_TRUE(score({}, 0).empty());
}

// The heads of one real prompt: the budget goes where the model fetches from afar, and it stays the
// budget while text is generated.
TEST(Reach, SpreadsTheBudgetUnevenlyAndKeepsItWhileDecoding) {
  const auto comm = make_single_communicator();
  launch::RuntimeOptions options;
  options.model = std::filesystem::path(PIKV_MODELS_DIR) / "tiny-moe";
  options.scheduler = "reach:every=16";
  options.budget_text = "60";
  options.num_threads = 1;
  launch::Runtime runtime(*comm, options);
  runtime.engine().keep_finished_sequences(true);
  Random random(313);
  Request request{.prompt = {}, .max_tokens = 66};
  for (int i = 0; i < 300; ++i) {
    request.prompt.push_back(static_cast<TokenId>(random.integer(10, 4000)));
  }
  (void)runtime.engine().run({&request, 1});
  const SequenceScores& scores = runtime.scheduling().last_scores();
  EXPECT_EQ(scores.next_position, 364);
  std::size_t most = 0, least = 1000, total = 0;
  for (std::size_t i = 0; i < scores.heads.size(); ++i) {
    const std::size_t kept =
        scores.heads[i].positions.size() - runtime.scheduling().last_evicted()[i].size();
    most = std::max(most, kept);
    least = std::min(least, kept);
    total += kept;
  }
  EXPECT_EQ(total, 60 * scores.heads.size());
  EXPECT_GE(least, 30u) << "the ends of every head";
  EXPECT_GT(most, 2 * least);
  // One token came after the last run.
  EXPECT_EQ(runtime.cache().stats().num_slots,
            static_cast<std::int64_t>(total + scores.heads.size()));
  runtime.cache().check_integrity();
}

}  // namespace
}  // namespace pikv
