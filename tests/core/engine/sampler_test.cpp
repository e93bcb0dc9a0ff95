// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/sampler.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

// Probabilities 2/8, 1/8, 5/8.
const std::vector<float> kLogits = {std::log(2.0f), 0.0f, std::log(5.0f)};

/// How often each token comes in many draws.
std::map<TokenId, int> draws(const std::vector<float>& logits, SamplingOptions options, int count,
                             const std::vector<TokenId>& history = {}) {
  Sampler sampler;
  std::map<TokenId, int> counts;
  for (int i = 0; i < count; ++i) {
    ++counts[sampler.sample(logits, history, options, 3, static_cast<std::uint64_t>(i))];
  }
  return counts;
}

/// Five standard deviations of a binomial count.
void expect_share(int seen, int of, double probability) {
  const double deviation = std::sqrt(of * probability * (1.0 - probability));
  EXPECT_NEAR(seen, of * probability, 5.0 * deviation + 0.5);
}

constexpr int kDraws = 20'000;

TEST(Sampler, TemperatureZeroTakesTheLargestAndTheLowestIdAmongEquals) {
  Sampler sampler;
  const std::vector<float> logits = {-3.0f, 7.5f, 1.0f, 7.5f};
  EXPECT_EQ(sampler.sample(logits, {}, {}, 0, 0), 1);
  const std::vector<float> one = {-1e30f};
  EXPECT_EQ(sampler.sample(one, {}, {}, 0, 0), 0);
}

TEST(Sampler, TemperatureOneDrawsFromTheSoftmax) {
  auto counts = draws(kLogits, {.temperature = 1.0f, .seed = 5}, kDraws);
  expect_share(counts[0], kDraws, 2.0 / 8);
  expect_share(counts[1], kDraws, 1.0 / 8);
  expect_share(counts[2], kDraws, 5.0 / 8);
}

TEST(Sampler, TemperatureHalfSquaresTheProbabilities) {
  auto counts = draws(kLogits, {.temperature = 0.5f, .seed = 5}, kDraws);
  expect_share(counts[0], kDraws, 4.0 / 30);
  expect_share(counts[1], kDraws, 1.0 / 30);
  expect_share(counts[2], kDraws, 25.0 / 30);
}

TEST(Sampler, TopKKeepsTheKMostProbable) {
  auto counts = draws(kLogits, {.temperature = 1.0f, .top_k = 2}, kDraws);
  expect_share(counts[0], kDraws, 2.0 / 7);
  EXPECT_EQ(counts[1], 0);
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .top_k = 1}, 100)[2], 100);
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .top_k = 99}, 1000).size(), 3u);
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .top_p = 0.6f}, 1000).size(), 1u);
  auto counts = draws(kLogits, {.temperature = 1.0f, .top_p = 0.7f}, kDraws);
  EXPECT_EQ(counts[1], 0);
  expect_share(counts[2], kDraws, 5.0 / 7);
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .top_p = 0.9f}, 1000).size(), 3u);
}

TEST(Sampler, TopPIsOfWhatTopKLeft) {
  // 5/7 of the two that are left reaches 0.7, 5/8 of all three does not.
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .top_k = 2, .top_p = 0.7f}, 1000).size(), 1u);
}

TEST(Sampler, MinPDropsWhatIsBelowAShareOfTheLargest) {
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .min_p = 0.19f}, 1000).size(), 3u);
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .min_p = 0.21f}, 1000).size(), 2u);
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .min_p = 0.41f}, 1000).size(), 1u);
  EXPECT_EQ(draws(kLogits, {.temperature = 1.0f, .min_p = 1.0f}, 1000).size(), 1u);
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  Sampler sampler;
  const SamplingOptions penalty{.repetition_penalty = 2.0f};
  const std::vector<TokenId> history = {0, 0, 0};
  const std::vector<float> positive = {3.0f, 1.4f, 1.6f};
  EXPECT_EQ(sampler.sample(positive, history, penalty, 0, 0), 2);
  const std::vector<float> once = {3.0f, 1.4f, 1.2f};
  EXPECT_EQ(sampler.sample(once, history, penalty, 0, 0), 0) << "1.5 after one division";
  const std::vector<float> negative = {-1.0f, -1.5f, -3.0f};
  EXPECT_EQ(sampler.sample(negative, history, penalty, 0, 0), 1);
  EXPECT_EQ(sampler.sample(negative, {}, penalty, 0, 0), 0);
}

TEST(Sampler, ADrawIsAFunctionOfSeedStreamAndCounter) {
  Random random(131);
  const auto logits = random.normals(997);
  const auto text = [&](std::uint64_t seed, std::uint64_t stream) {
    Sampler sampler;
    std::vector<TokenId> tokens;
    for (std::uint64_t i = 0; i < 50; ++i) {
      tokens.push_back(sampler.sample(logits, {}, {.temperature = 1.0f, .seed = seed}, stream, i));
    }
    return tokens;
  };
  EXPECT_EQ(text(1, 2), text(1, 2));
  EXPECT_NE(text(1, 2), text(2, 2));
  EXPECT_NE(text(1, 2), text(1, 3));
}

TEST(Sampler, ARoundingChangesNoDraw) {
  testing_support::Random random(92);
  std::vector<float> logits(500);
  std::vector<float> rounded(500);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = 1.0f + 1e-6f * random.normal();
    rounded[i] = 1.0f + 1e-6f * random.normal();
  }
  Sampler sampler;
  for (std::uint64_t counter = 0; counter < 200; ++counter) {
    EXPECT_EQ(sampler.sample(logits, {}, {.temperature = 1.0f}, 0, counter),
              sampler.sample(rounded, {}, {.temperature = 1.0f}, 0, counter));
  }
}

TEST(Sampler, LargeLogitsDoNotOverflow) {
  const std::vector<float> logits = {1e4f, 1e4f - 1.0f, -1e4f};
  auto counts = draws(logits, {.temperature = 1.0f}, kDraws);
  expect_share(counts[0], kDraws, 1.0 / (1.0 + std::exp(-1.0)));
  EXPECT_EQ(counts[2], 0);
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const auto refused = [](const SamplingOptions& options, const std::string& name) {
    try {
      check_sampling_options(options);
      ADD_FAILURE() << name << " was accepted";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  };
  EXPECT_NO_THROW(check_sampling_options({}));
  refused({.temperature = -0.1f}, "temperature");
  refused({.temperature = NAN}, "temperature");
  refused({.temperature = INFINITY}, "temperature");
  refused({.top_k = -1}, "top-k");
  refused({.top_p = 0.0f}, "top-p");
  refused({.top_p = 1.01f}, "top-p");
  refused({.top_p = NAN}, "top-p");
  refused({.min_p = -0.1f}, "min-p");
  refused({.min_p = 1.1f}, "min-p");
  refused({.repetition_penalty = 0.0f}, "repetition-penalty");
  refused({.repetition_penalty = NAN}, "repetition-penalty");
}

}  // namespace
}  // namespace pikv
