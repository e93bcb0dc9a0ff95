// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

class RmsNorm : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(RmsNorm, EqualsTheReferenceApartAndInPlace) {
  Random random(21);
  for (const std::int64_t rows : {0, 1, 3, 331}) {
    for (const std::int64_t n : {1, 7, 15, 16, 17, 64, 257, 2048}) {
      for (const float eps : {1e-6f, 0.5f}) {
        SCOPED_TRACE(testing::Message() << "T = " << rows << ", N = " << n << ", eps = " << eps);
        auto x = random.normals(rows * n, 3.0f);
        const auto weight = random.normals(n);
        const reference::Expected expected =
            reference::rms_norm(x, weight, static_cast<double>(eps), rows, n);
        auto y = poisoned(rows * n);
        kernels::rms_norm(exec_, {.x = {x.data(), {rows, n}},
                                  .weight = weight.data(),
                                  .eps = eps,
                                  .y = {y.data(), {rows, n}}});
        reference::expect_within(y, expected);
        kernels::rms_norm(exec_, {.x = {x.data(), {rows, n}},
                                  .weight = weight.data(),
                                  .eps = eps,
                                  .y = {x.data(), {rows, n}}});
        EXPECT_EQ(x, y) << "in place";
      }
    }
  }
}

TEST_P(RmsNorm, WorkedByHand) {
  // mean(3^2, 4^2) = 12.5, and 12.5 + 3.5 = 16.
  const std::vector<float> x = {3.0f, -4.0f};
  const std::vector<float> weight = {2.0f, 10.0f};
  auto y = poisoned(2);
  kernels::rms_norm(
      exec_,
      {.x = {x.data(), {1, 2}}, .weight = weight.data(), .eps = 3.5f, .y = {y.data(), {1, 2}}});
  EXPECT_FLOAT_EQ(y[0], 1.5f);
  EXPECT_FLOAT_EQ(y[1], -10.0f);
}

TEST_P(RmsNorm, ASumIsStoredAndNormalised) {
  Random random(7);
  for (const std::int64_t n : {1, 15, 16, 33, 100}) {
    const std::int64_t rows = 5;
    std::vector<float> x = random.normals(rows * n);
    const std::vector<float> added = random.normals(rows * n);
    const std::vector<float> weight = random.normals(n);
    std::vector<float> sums = x;
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += added[i];
    auto expected = poisoned(rows * n);
    auto y = poisoned(rows * n);
    kernels::rms_norm(exec_, {.x = {sums.data(), {rows, n}},
                              .weight = weight.data(),
                              .eps = 1e-5f,
                              .y = {expected.data(), {rows, n}}});
    kernels::rms_norm(exec_, {.x = {x.data(), {rows, n}},
                              .weight = weight.data(),
                              .eps = 1e-5f,
                              .y = {y.data(), {rows, n}},
                              .added = added.data(),
                              .sum = x.data()});
    EXPECT_EQ(y, expected);
    EXPECT_EQ(x, sums);
  }
}

TEST_P(RmsNorm, ShapesThatDifferAreRefused) {
  std::vector<float> x(4, 1.0f);
  EXPECT_THROW(
      kernels::rms_norm(
          exec_,
          {.x = {x.data(), {2, 2}}, .weight = x.data(), .eps = 1.0f, .y = {x.data(), {1, 4}}}),
      InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, RmsNorm, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
