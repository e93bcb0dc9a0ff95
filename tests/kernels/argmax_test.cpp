// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/argmax.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <utility>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class Argmax : public testing::TestWithParam<int> {
 protected:
  std::vector<std::int32_t> run(const std::vector<float>& x, std::int64_t row_size) {
    const auto rows = static_cast<std::int64_t>(x.size()) / row_size;
    std::vector<std::int32_t> largest(static_cast<std::size_t>(rows), -7);
    kernels::argmax(exec_,
                    {.x = {x.data(), {rows, row_size}}, .largest = {largest.data(), {rows}}});
    return largest;
  }

  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(Argmax, OfEveryLengthIsTheFirstOfTheLargest) {
  Random random(211);
  for (const std::int64_t size : {1, 2, 15, 16, 17, 63, 64, 65, 331, 32'768, 32'769, 151'936}) {
    for (const float steps : {1.0f, 1e6f}) {  // with many equals, and with few
      SCOPED_TRACE(testing::Message() << "V = " << size << ", 1/" << steps);
      const std::int64_t rows = size > 1000 ? 3 : 67;
      std::vector<float> x = random.normals(rows * size);
      for (float& value : x) value = std::round(value * steps) / steps;
      const std::vector<std::int32_t> largest = run(x, size);
      for (std::int64_t t = 0; t < rows; ++t) {
        const float* row = x.data() + t * size;
        ASSERT_EQ(largest[static_cast<std::size_t>(t)], std::max_element(row, row + size) - row)
            << "row " << t;
      }
    }
  }
}

TEST_P(Argmax, FindsALoneLargestOnEveryPlace) {
  for (const std::int64_t size : {1, 64, 131, 40'001}) {
    std::vector<float> x(static_cast<std::size_t>(size), -3.0f);
    for (std::int64_t i = 0; i<size; i += size> 1000 ? 977 : 1) {
      x[static_cast<std::size_t>(i)] = -2.0f;
      ASSERT_EQ(run(x, size)[0], i) << "of " << size;
      x[static_cast<std::size_t>(i)] = -3.0f;
    }
  }
}

TEST_P(Argmax, TakesInfinitiesZerosAndNansAsTheContractSays) {
  for (const std::int64_t size : {4, 70, 40'000}) {
    SCOPED_TRACE(size);
    const auto row = [&](float others, std::initializer_list<std::pair<std::int64_t, float>> set) {
      std::vector<float> x(static_cast<std::size_t>(size), others);
      for (const auto& [idx, value] : set) x[static_cast<std::size_t>(idx)] = value;
      return x;
    };
    const std::int64_t last = size - 1;
    EXPECT_EQ(run(row(-kInfinity, {}), size)[0], 0);
    EXPECT_EQ(run(row(-kInfinity, {{last, -3e38f}}), size)[0], last);
    EXPECT_EQ(run(row(0.0f, {{2, kInfinity}, {last, kInfinity}}), size)[0], 2);
    EXPECT_EQ(run(row(-0.0f, {{last, 0.0f}}), size)[0], 0);
    EXPECT_EQ(run(row(-1.0f, {{1, 0.0f}, {2, -0.0f}}), size)[0], 1);
    EXPECT_EQ(run(row(-1.0f, {{1, -0.0f}, {2, 0.0f}}), size)[0], 1);
    EXPECT_EQ(run(row(-1.0f, {{1, kNan}, {last, 1.0f}}), size)[0], last);
    EXPECT_EQ(run(row(-1.0f, {{0, kNan}, {last, 1.0f}}), size)[0], 0);
    EXPECT_EQ(run(row(kNan, {{0, -kInfinity}}), size)[0], 0);
    EXPECT_EQ(run(row(kNan, {}), size)[0], 0);
    EXPECT_EQ(run(row(1.0f, {{0, 0.5f}, {1, kNan}}), size)[0], 2);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Argmax, testing::Values(1, 3));

TEST(ArgmaxArgs, ThatDoNotFitAreRefused) {
  Exec exec = Exec::cpu(1);
  const std::vector<float> x(6);
  std::vector<std::int32_t> largest(3);
  EXPECT_THROW(kernels::argmax(exec, {.x = {x.data(), {2, 3}}, .largest = {largest.data(), {3}}}),
               InvalidArgument);
  EXPECT_THROW(kernels::argmax(exec, {.x = {x.data(), {3, 0}}, .largest = {largest.data(), {3}}}),
               InvalidArgument);
  EXPECT_NO_THROW(kernels::argmax(exec, {.x = {nullptr, {0, 5}}, .largest = {nullptr, {0}}}));
}

}  // namespace
}  // namespace pikv
