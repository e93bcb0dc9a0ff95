// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/fill.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

std::vector<float> filled(int num_threads, std::int64_t count, float limit, std::uint64_t seed) {
  Exec exec = Exec::cpu(num_threads);
  std::vector<float> numbers(static_cast<std::size_t>(count), -9.0f);
  kernels::fill_uniform(
      exec,
      {.data = numbers.data(), .dtype = DType::kF32, .count = count, .limit = limit, .seed = seed});
  return numbers;
}

TEST(FillUniform, IsUniformWithinItsLimit) {
  constexpr std::int64_t kCount = 200'000;
  const std::vector<float> numbers = filled(2, kCount, 0.5f, 3);
  double sum = 0;
  double squares = 0;
  for (const float x : numbers) {
    ASSERT_LE(std::abs(x), 0.5f);
    sum += static_cast<double>(x);
    squares += static_cast<double>(x * x);
  }
  EXPECT_NEAR(sum / kCount, 0.0, 2e-3);
  EXPECT_NEAR(squares / kCount, 0.25 / 3, 1e-3);
}

TEST(FillUniform, DependsOnTheSeedAndNotOnThreads) {
  EXPECT_EQ(filled(1, 70'001, 1.0f, 5), filled(3, 70'001, 1.0f, 5));
  EXPECT_NE(filled(1, 100, 1.0f, 5), filled(1, 100, 1.0f, 6));
  EXPECT_TRUE(filled(1, 0, 1.0f, 5).empty());
}

TEST(FillUniform, RefusesANegativeLimit) {
  EXPECT_THROW((void)filled(1, 4, -1.0f, 0), InvalidArgument);
}

}  // namespace
}  // namespace pikv
