// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/shares.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/random.hpp"

namespace pikv::scheduling {
namespace {

using Counts = std::vector<std::int64_t>;

Counts share(std::int64_t total, const std::vector<double>& weights, const Counts& least,
             const Counts& most) {
  return share_out(total, weights, least, most);
}

TEST(Shares, AreInProportionToTheWeights) {
  EXPECT_EQ(share(12, {1, 2, 3}, {0, 0, 0}, {99, 99, 99}), (Counts{2, 4, 6}));
  EXPECT_EQ(share(12 + 6, {1, 2, 3}, {1, 2, 3}, {99, 99, 99}), (Counts{3, 6, 9}));
}

TEST(Shares, GiveTheRestToTheLargestRemainderAndTheFirstOnTies) {
  EXPECT_EQ(share(10, {1, 1, 1}, {0, 0, 0}, {99, 99, 99}), (Counts{4, 3, 3}));
  EXPECT_EQ(share(10, {1, 1.2, 1.3}, {0, 0, 0}, {99, 99, 99}), (Counts{3, 3, 4}));  // 2.9 3.4 3.7
}

TEST(Shares, WhatAFullHeadCannotTakeGoesToTheOthersInProportion) {
  EXPECT_EQ(share(20, {5, 1, 2}, {0, 0, 0}, {5, 99, 99}), (Counts{5, 5, 10}));
  EXPECT_EQ(share(20, {5, 1, 0}, {0, 0, 0}, {5, 5, 99}), (Counts{5, 5, 10}));
  EXPECT_EQ(share(9, {0, 0, 0}, {0, 0, 0}, {9, 9, 9}), (Counts{3, 3, 3}));
}

TEST(Shares, SumToTheTotalWithinTheirBounds) {
  testing_support::Random random(401);
  for (int round = 0; round < 300; ++round) {
    const auto n = static_cast<std::size_t>(random.integer(1, 13));
    std::vector<double> weights(n);
    Counts least(n), most(n);
    for (std::size_t i = 0; i < n; ++i) {
      weights[i] = random.integer(0, 2) == 0 ? 0.0 : static_cast<double>(random.integer(1, 1000));
      least[i] = random.integer(0, 10);
      most[i] = least[i] + random.integer(0, 40);
    }
    const std::int64_t low = std::accumulate(least.begin(), least.end(), std::int64_t{0});
    const std::int64_t high = std::accumulate(most.begin(), most.end(), std::int64_t{0});
    const std::int64_t total = random.integer(low, high);
    const Counts counts = share_out(total, weights, least, most);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), total);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_GE(counts[i], least[i]) << "round " << round << ", head " << i;
      EXPECT_LE(counts[i], most[i]) << "round " << round << ", head " << i;
    }
  }
}

}  // namespace
}  // namespace pikv::scheduling
