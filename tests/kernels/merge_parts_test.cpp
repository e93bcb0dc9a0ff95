// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Many parts at once against one after the other in double precision.
#include "kernels/merge_parts.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kEmpty = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kParts = 5, kRows = 7, kHeads = 3, kD = 19;
constexpr std::int64_t kStates = kRows * kHeads;

TEST(MergeParts, IsTheMeanOfAllValuesByTheirWeights) {
  Random random(411);
  Exec exec = Exec::cpu(1);
  for (const std::vector<int>& counted :
       std::vector<std::vector<int>>{{0}, {3}, {1, 4}, {0, 1, 2, 3, 4}, {}}) {
    const std::uint64_t mask = kernels::mask_of(counted);
    std::vector<float> from_o = random.normals(kParts * kStates * kD);
    std::vector<float> from_lse = random.normals(kParts * kStates, 20.0f);
    std::vector<double> sums(static_cast<std::size_t>(kStates * kD));
    std::vector<double> totals(static_cast<std::size_t>(kStates));
    for (std::int64_t i = 0; i < kParts * kStates; ++i) {
      const bool counts = (mask >> (i / kStates) & 1) != 0;
      float& lse = from_lse[static_cast<std::size_t>(i)];
      if (!counts || random.integer(0, 3) == 0) {
        lse = counts ? kEmpty : kNan;
        std::fill_n(from_o.begin() + i * kD, kD, kNan);
        continue;
      }
      const auto state = static_cast<std::size_t>(i % kStates);
      const double weight = std::exp(static_cast<double>(lse));
      totals[state] += weight;
      for (std::size_t d = 0; d < std::size_t{kD}; ++d) {
        sums[state * std::size_t{kD} + d] +=
            weight * static_cast<double>(from_o[static_cast<std::size_t>(i * kD) + d]);
      }
    }
    auto o = poisoned(kStates * kD);
    auto lse = poisoned(kStates);
    kernels::merge_parts(exec, {.from_o = {from_o.data(), {kParts, kRows, kHeads, kD}},
                                .from_lse = {from_lse.data(), {kParts, kRows, kHeads}},
                                .mask = mask,
                                .o = {o.data(), {kRows, kHeads, kD}},
                                .lse = {lse.data(), {kRows, kHeads}}});
    for (std::size_t s = 0; s < totals.size(); ++s) {
      const bool empty = totals[s] == 0;
      EXPECT_EQ(lse[s] == kEmpty, empty);
      if (!empty) {
        EXPECT_NEAR(static_cast<double>(lse[s]), std::log(totals[s]), 1e-4);
      }
      for (std::size_t d = 0; d < std::size_t{kD}; ++d) {
        const std::size_t at = s * std::size_t{kD} + d;
        ASSERT_NEAR(static_cast<double>(o[at]), empty ? 0.0 : sums[at] / totals[s], 2e-5);
      }
    }
  }
}

TEST(MergeParts, ANanIsNotHidden) {
  Exec exec = Exec::cpu(1);
  const std::vector<float> from_o = {1.0f, 2.0f};
  const std::vector<float> from_lse = {kNan, kEmpty};
  float o = 0;
  float lse = 0;
  kernels::merge_parts(exec, {.from_o = {from_o.data(), {2, 1, 1, 1}},
                              .from_lse = {from_lse.data(), {2, 1, 1}},
                              .mask = 0b11,
                              .o = {&o, {1, 1, 1}},
                              .lse = {&lse, {1, 1}}});
  EXPECT_TRUE(std::isnan(o));
  EXPECT_TRUE(std::isnan(lse));
}

TEST(SumParts, AddsThoseOfTheMask) {
  Exec exec = Exec::cpu(1);
  const std::vector<float> from = {1, 2, kNan, kNan, 10, 20};
  auto y = poisoned(2);
  kernels::sum_parts(exec,
                     {.from = {from.data(), {3, 1, 2}}, .mask = 0b101, .y = {y.data(), {1, 2}}});
  EXPECT_EQ(y, (std::vector<float>{11, 22}));
  kernels::sum_parts(exec, {.from = {from.data(), {3, 1, 2}}, .mask = 0, .y = {y.data(), {1, 2}}});
  EXPECT_EQ(y, (std::vector<float>{0, 0}));
}

TEST(SumParts, RefusesAMaskOfMoreParts) {
  Exec exec = Exec::cpu(1);
  const std::vector<float> from = {1, 2};
  auto y = poisoned(1);
  EXPECT_THROW(
      kernels::sum_parts(
          exec, {.from = {from.data(), {2, 1, 1}}, .mask = 0b100, .y = {y.data(), {1, 1}}}),
      InvalidArgument);
}

}  // namespace
}  // namespace pikv
