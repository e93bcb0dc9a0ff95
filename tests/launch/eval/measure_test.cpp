// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/measure.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

using Scores = std::vector<double>;

TEST(Measure, IntervalsOfRightAndWrongAnswersAreWilsons) {
  const Scores right(8, 1.0);
  EXPECT_NEAR(margin(right), 0.1622, 1e-4);  // the interval [0.676, 1.0] has this half width
  EXPECT_DOUBLE_EQ(estimate(Measure::kScore, right).value, 1.0);
  EXPECT_NEAR(estimate(Measure::kScore, right).low, 0.6756, 1e-4);
  EXPECT_NEAR(estimate(Measure::kScore, right).high, 1.0, 1e-12);
  EXPECT_NEAR(margin(Scores{1, 0, 1, 0}), 0.3500, 1e-4);
}

TEST(Measure, IntervalsOfSharesAreNormalAndPossible) {
  const Scores shares = {0.25, 0.75};
  EXPECT_NEAR(margin(shares), 1.959964 * std::sqrt(0.125 / 2), 1e-9);
  EXPECT_NEAR(estimate(Measure::kScore, shares).low, 0.5 - margin(shares), 1e-9);
  EXPECT_EQ(estimate(Measure::kScore, Scores{0.1, 0.9}).high, 1.0) << "not above";
  EXPECT_EQ(estimate(Measure::kScore, Scores{0.5}).low, 0.0) << "one score says little";
  EXPECT_EQ(margin(Scores{}), 0.0);
}

TEST(Measure, PerplexityIsTheExponentialOfTheMean) {
  const Estimate two = estimate(Measure::kPerplexity, Scores{2, 3});
  const double half = 1.959964 * 0.5;  // the standard error of 2 and 3
  EXPECT_DOUBLE_EQ(two.value, std::exp(2.5));
  EXPECT_NEAR(two.low, std::exp(2.5 - half), 1e-9);
  EXPECT_NEAR(two.high, std::exp(2.5 + half), 1e-9);
  // Of 0 and 1 too, which are no right and wrong answers here.
  EXPECT_NEAR(estimate(Measure::kPerplexity, Scores{0, 1}).high, std::exp(0.5 + half), 1e-9);
  EXPECT_DOUBLE_EQ(estimate(Measure::kPerplexity, Scores{2}).high, std::exp(2.0));
}

TEST(Measure, DistancesFromTheFullCacheAreNotBelowZero) {
  for (const Measure measure : {Measure::kKl, Measure::kOutputError}) {
    const Estimate distance = estimate(measure, Scores{0.0, 1.0});
    EXPECT_DOUBLE_EQ(distance.value, 0.5) << name(measure);
    EXPECT_EQ(distance.low, 0.0) << name(measure);
    EXPECT_NEAR(distance.high, 0.5 + 1.959964 * 0.5, 1e-9) << "and may be above 1";
  }
}

TEST(Measure, NamesAreReadBack) {
  for (const Measure measure :
       {Measure::kScore, Measure::kPerplexity, Measure::kKl, Measure::kOutputError}) {
    EXPECT_EQ(parse_measure(name(measure)), measure);
  }
  EXPECT_THROW((void)parse_measure("loss"), InvalidArgument);
}

}  // namespace
}  // namespace pikv::launch
