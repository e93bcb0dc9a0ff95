// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/softmax.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

class Softmax : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(Softmax, OfEveryLengthIsThatOfTheReference) {
  testing_support::Random random(97);
  for (const std::int64_t size : {1, 15, 16, 17, 33, 100, 5000}) {
    for (const float scale : {1.0f, 30.0f, 300.0f}) {
      const std::int64_t rows = 9;
      std::vector<float> x = random.normals(rows * size, scale);
      const std::vector<float> before = x;
      std::vector<std::int32_t> lengths;
      for (std::int64_t r = 0; r < rows; ++r) {
        lengths.push_back(static_cast<std::int32_t>(r == 0 ? 0 : random.integer(1, size)));
      }
      lengths.back() = static_cast<std::int32_t>(size);
      kernels::softmax(exec_, {.x = {x.data(), {rows, size}}, .lengths = {lengths.data(), {rows}}});
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* row = before.data() + r * size;
        const std::int32_t n = lengths[static_cast<std::size_t>(r)];
        double largest = -INFINITY;
        for (std::int32_t i = 0; i < n; ++i) largest = std::max(largest, double{row[i]});
        double total = 0;
        for (std::int32_t i = 0; i < n; ++i) total += std::exp(double{row[i]} - largest);
        for (std::int64_t i = 0; i < size; ++i) {
          const double expected = i < n ? std::exp(double{row[i]} - largest) / total : 0.0;
          ASSERT_NEAR(double{x[static_cast<std::size_t>(r * size + i)]}, expected,
                      i < n ? 1e-7 + 1e-5 * expected : 0.0)
              << "row " << r << ", element " << i << " of " << n;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, Softmax, testing::Values(1, 3));

TEST(SoftmaxArgs, ThatDoNotFitAreRefused) {
  Exec exec = Exec::cpu(1);
  std::vector<float> x(4);
  const std::vector<std::int32_t> lengths(3);
  EXPECT_THROW(kernels::softmax(exec, {.x = {x.data(), {2, 2}}, .lengths = {lengths.data(), {3}}}),
               InvalidArgument);
  EXPECT_NO_THROW(kernels::softmax(exec, {.x = {x.data(), {0, 2}}, .lengths = {nullptr, {0}}}));
}

}  // namespace
}  // namespace pikv
