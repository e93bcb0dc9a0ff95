// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/axis.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv::launch {
namespace {

using Ticks = std::vector<double>;

TEST(Axis, TicksAreRoundAndEncloseTheValues) {
  EXPECT_EQ(binary_ticks(1000, 5000), (Ticks{512, 1024, 2048, 4096, 8192}));
  EXPECT_EQ(binary_ticks(1024, 1024), (Ticks{1024, 2048}));
  EXPECT_EQ(decimal_ticks(0.15, 1), (Ticks{0.1, 0.2, 0.5, 1}));
  EXPECT_EQ(decimal_ticks(3, 30), (Ticks{2, 5, 10, 20, 50}));
  EXPECT_EQ(linear_ticks(0, 6), (Ticks{0, 2, 4, 6}));
  EXPECT_EQ(linear_ticks(-3, 9), (Ticks{-5, 0, 5, 10}));
  EXPECT_EQ(linear_ticks(0, 0).front(), 0);
  EXPECT_THROW((void)decimal_ticks(0, 1), InvalidArgument);
  EXPECT_THROW((void)linear_ticks(0, INFINITY), InvalidArgument);
}

TEST(Axis, AnyRangeHasAFewTicksAroundIt) {
  testing_support::Random random(211);
  for (int i = 0; i < 500; ++i) {
    const double low = std::exp2(random.integer(-60, 60));
    const double high = low * std::exp2(static_cast<double>(random.integer(0, 4000)) / 100);
    SCOPED_TRACE(testing::Message() << low << " to " << high);
    for (const Ticks& ticks :
         {linear_ticks(low, high), decimal_ticks(low, high), binary_ticks(low, high)}) {
      EXPECT_GE(ticks.size(), 2u);
      EXPECT_LE(ticks.size(), 10u);
      EXPECT_LE(ticks.front(), low);
      EXPECT_GE(ticks.back(), high);
      EXPECT_TRUE(std::ranges::is_sorted(ticks));
    }
  }
}

TEST(Axis, ValuesStandInProportionOrInProportionOfTheirLogarithms) {
  const Axis linear({0, 1, 2}, Axis::Scale::kLinear, 300, 100);
  EXPECT_DOUBLE_EQ(linear.at(0), 300);
  EXPECT_DOUBLE_EQ(linear.at(0.5), 250);
  EXPECT_DOUBLE_EQ(linear.at(5), 100) << "outside stands at the end";
  const Axis logarithmic({1, 4, 16}, Axis::Scale::kLogarithmic, 0, 100);
  EXPECT_DOUBLE_EQ(logarithmic.at(4), 50);
  EXPECT_DOUBLE_EQ(logarithmic.at(0), 0);
}

}  // namespace
}  // namespace pikv::launch
