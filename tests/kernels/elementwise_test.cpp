// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/elementwise.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using reference::kEpsilon;
using testing_support::poisoned;
using testing_support::Random;

constexpr std::int64_t kRows[] = {0, 1, 3, 127};
constexpr std::int64_t kWidths[] = {1, 7, 16, 17, 257};

class Elementwise : public testing::TestWithParam<int> {
 protected:
  template <class Check>
  void for_each_shape(const Check& check) {
    for (const std::int64_t rows : kRows) {
      for (const std::int64_t n : kWidths) {
        SCOPED_TRACE(testing::Message() << "T = " << rows << ", N = " << n);
        check(rows, n);
      }
    }
  }

  Exec exec_ = Exec::cpu(GetParam());
};

double sigmoid(float x) { return 1.0 / (1.0 + std::exp(-static_cast<double>(x))); }

TEST_P(Elementwise, SiluMulEqualsTheReferenceApartAndInPlace) {
  Random random(41);
  for_each_shape([&](std::int64_t rows, std::int64_t n) {
    auto gate = random.normals(rows * n, 4.0f);
    if (!gate.empty()) gate[0] = random.integer(0, 1) == 0 ? 100.0f : -100.0f;
    auto up = random.normals(rows * n);
    reference::Expected expected;
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double y = static_cast<double>(gate[i]) * sigmoid(gate[i]) * static_cast<double>(up[i]);
      expected.values.push_back(y);
      // The exponential is good to a few ulp; its argument is not rounded. The absolute part is for
      // results near the smallest normal number.
      expected.bounds.push_back(16 * kEpsilon * std::abs(y) + 1e-35);
    }
    auto out = poisoned(rows * n);
    kernels::silu_mul(exec_, {.gate = {gate.data(), {rows, n}},
                              .up = {up.data(), {rows, n}},
                              .out = {out.data(), {rows, n}}});
    reference::expect_within(out, expected);
    kernels::silu_mul(exec_, {.gate = {gate.data(), {rows, n}},
                              .up = {up.data(), {rows, n}},
                              .out = {gate.data(), {rows, n}}});
    EXPECT_EQ(gate, out) << "out is gate";
  });
}

TEST_P(Elementwise, AddIsOneRoundingExactly) {
  Random random(42);
  for_each_shape([&](std::int64_t rows, std::int64_t n) {
    const auto x = random.normals(rows * n);
    auto y = random.normals(rows * n);
    std::vector<float> expected;
    for (std::size_t i = 0; i < x.size(); ++i) expected.push_back(x[i] + y[i]);
    kernels::add(exec_, {.x = {x.data(), {rows, n}}, .y = {y.data(), {rows, n}}});
    EXPECT_EQ(y, expected);
  });
}

TEST_P(Elementwise, SigmoidGatedAddUsesOneGateARow) {
  Random random(43);
  for_each_shape([&](std::int64_t rows, std::int64_t n) {
    const auto gate = random.normals(rows, 4.0f);
    const auto x = random.normals(rows * n);
    auto y = random.normals(rows * n);
    reference::Expected expected;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double term =
          sigmoid(gate[i / static_cast<std::size_t>(n)]) * static_cast<double>(x[i]);
      expected.values.push_back(static_cast<double>(y[i]) + term);
      expected.bounds.push_back(8 * kEpsilon *
                                (std::abs(static_cast<double>(y[i])) + std::abs(term)));
    }
    kernels::sigmoid_gated_add(
        exec_,
        {.gate = {gate.data(), {rows}}, .x = {x.data(), {rows, n}}, .y = {y.data(), {rows, n}}});
    reference::expect_within(y, expected);
  });
}

TEST_P(Elementwise, ClampBoundsBothSidesAndLeavesTheRestAlone) {
  Random random(44);
  for_each_shape([&](std::int64_t rows, std::int64_t n) {
    auto x = random.normals(rows * n, 2.0f);
    std::vector<float> expected;
    for (const float value : x) expected.push_back(std::clamp(value, -1.25f, 1.25f));
    kernels::clamp(exec_, {.limit = 1.25f, .x = {x.data(), {rows, n}}});
    EXPECT_EQ(x, expected);
  });
}

TEST_P(Elementwise, BrokenContractsAreRefused) {
  std::vector<float> x(4, 1.0f);
  EXPECT_THROW(kernels::clamp(exec_, {.limit = 0.0f, .x = {x.data(), {2, 2}}}), InvalidArgument);
  EXPECT_THROW(kernels::add(exec_, {.x = {x.data(), {2, 2}}, .y = {x.data(), {1, 4}}}),
               InvalidArgument);
  EXPECT_THROW(
      kernels::silu_mul(
          exec_, {.gate = {x.data(), {2, 2}}, .up = {x.data(), {4, 1}}, .out = {x.data(), {2, 2}}}),
      InvalidArgument);
  EXPECT_THROW(
      kernels::sigmoid_gated_add(
          exec_, {.gate = {x.data(), {3}}, .x = {x.data(), {2, 2}}, .y = {x.data(), {2, 2}}}),
      InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, Elementwise, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
