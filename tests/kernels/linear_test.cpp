// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

constexpr std::int64_t kRows[] = {0, 1, 2, 3, 5, 8, 16, 17, 33};
constexpr std::int64_t kWidths[] = {1, 7, 16, 31, 64, 257};

class Linear : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(Linear, EqualsTheReferenceForEveryShapeAndWeightType) {
  Random random(11);
  for (const std::int64_t k : kWidths) {
    for (const std::int64_t n : kWidths) {
      const auto raw = random.normals(n * k);
      const auto bias = random.normals(n);
      for (const DType dtype : reference::kDTypes) {
        const reference::Encoded weight = reference::encode(raw, dtype);
        for (const std::int64_t rows : kRows) {
          const auto x = random.normals(rows * k);
          for (const bool with_bias : {false, true}) {
            SCOPED_TRACE(testing::Message() << name(dtype) << ", T = " << rows << ", K = " << k
                                            << ", N = " << n << ", bias " << with_bias);
            auto y = poisoned(rows * n);
            kernels::linear(exec_, {.x = {x.data(), {rows, k}},
                                    .weight = weight.weight(n, k),
                                    .bias = with_bias ? bias.data() : nullptr,
                                    .y = {y.data(), {rows, n}}});
            const std::span<const float> used =
                with_bias ? std::span(bias) : std::span<const float>();
            reference::expect_within(y, reference::linear(x, weight.values, used, rows, k, n));
          }
        }
      }
    }
  }
}

TEST_P(Linear, ManyThreadsPartsOfOneProductFitTogether) {
  // Large enough for several parts in either regime, with a remainder in the last.
  constexpr std::int64_t kK = 509;
  constexpr std::int64_t kN = 1031;
  Random random(12);
  const auto raw = random.normals(kN * kK);
  const auto bias = random.normals(kN);
  for (const DType dtype : reference::kDTypes) {
    const reference::Encoded weight = reference::encode(raw, dtype);
    for (const std::int64_t rows : {1, 19}) {
      const auto x = random.normals(rows * kK);
      auto y = poisoned(rows * kN);
      kernels::linear(exec_, {.x = {x.data(), {rows, kK}},
                              .weight = weight.weight(kN, kK),
                              .bias = bias.data(),
                              .y = {y.data(), {rows, kN}}});
      reference::expect_within(y, reference::linear(x, weight.values, bias, rows, kK, kN));
    }
  }
}

TEST_P(Linear, ProductsInBf16EqualTheReferenceOfRoundedInputs) {
  exec_.set_product_dtype(DType::kBf16);
  Random random(15);
  for (const std::int64_t rows : {33, 36, 47, 100}) {  // blocks of 12, 4 and 1 rows
    for (const std::int64_t k : {1, 2, 7, 64, 257}) {
      for (const std::int64_t n : {1, 31, 32, 33, 100, 1031}) {
        SCOPED_TRACE(testing::Message() << "T = " << rows << ", K = " << k << ", N = " << n);
        const auto x = random.normals(rows * k);
        std::vector<float> rounded;
        for (const float value : x) rounded.push_back(to_float(from_float<BFloat16>(value)));
        const reference::Encoded weight = reference::encode(random.normals(n * k), DType::kBf16);
        const auto bias = random.normals(n);
        auto y = poisoned(rows * n);
        kernels::linear(exec_, {.x = {x.data(), {rows, k}},
                                .weight = weight.weight(n, k),
                                .bias = bias.data(),
                                .y = {y.data(), {rows, n}}});
        reference::expect_within(y, reference::linear(rounded, weight.values, bias, rows, k, n));
      }
    }
  }
}

TEST_P(Linear, ProductsOfOtherDTypesAreRefused) {
  EXPECT_THROW(exec_.set_product_dtype(DType::kF16), InvalidArgument);
  EXPECT_EQ(exec_.product_dtype(), DType::kF32);
}

TEST_P(Linear, ProductsTogetherEqualProductsAlone) {
  Random random(13);
  struct Product {
    reference::Encoded weight;
    std::vector<float> x, y, alone;
    std::int64_t rows, k, n;
  };
  std::vector<Product> products;
  for (const std::int64_t rows : {3, 0, 40, 1}) {
    for (const DType dtype : reference::kDTypes) {
      const std::int64_t k = random.integer(1, 130);
      const std::int64_t n = random.integer(1, 130);
      products.push_back({.weight = reference::encode(random.normals(n * k), dtype),
                          .x = random.normals(rows * k),
                          .y = poisoned(rows * n),
                          .alone = poisoned(rows * n),
                          .rows = rows,
                          .k = k,
                          .n = n});
    }
  }
  std::vector<kernels::LinearArgs> together;
  for (Product& p : products) {
    together.push_back({.x = {p.x.data(), {p.rows, p.k}},
                        .weight = p.weight.weight(p.n, p.k),
                        .y = {p.y.data(), {p.rows, p.n}}});
    kernels::LinearArgs alone = together.back();
    alone.y.data = p.alone.data();
    kernels::linear(exec_, alone);
  }
  kernels::linears(exec_, together);
  for (const Product& p : products) EXPECT_EQ(p.y, p.alone);
}

TEST_P(Linear, IsTheSameBitForBitEachTime) {
  Random random(14);
  const auto raw = random.normals(257 * 64);
  const auto x = random.normals(33 * 64);
  const reference::Encoded weight = reference::encode(raw, DType::kBf16);
  std::vector<std::vector<float>> results;
  for (int run = 0; run < 3; ++run) {
    results.push_back(poisoned(33 * 257));
    kernels::linear(exec_, {.x = {x.data(), {33, 64}},
                            .weight = weight.weight(257, 64),
                            .y = {results.back().data(), {33, 257}}});
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST_P(Linear, ShapesThatDoNotFitAreRefused) {
  const std::vector<float> x(6, 1.0f);
  std::vector<float> y(4);
  EXPECT_THROW(kernels::linear(exec_, {.x = {x.data(), {2, 3}},
                                       .weight = {x.data(), DType::kF32, 2, 2},
                                       .y = {y.data(), {2, 2}}}),
               InvalidArgument);
  EXPECT_THROW(kernels::linear(exec_, {.x = {x.data(), {2, 3}},
                                       .weight = {x.data(), DType::kF32, 2, 3},
                                       .y = {y.data(), {1, 2}}}),
               InvalidArgument);
}

TEST_P(Linear, OfNormedRowsIsTheNormAndThenTheProducts) {
  Random random(15);
  const std::int64_t k = 48;
  const auto norm_weight = random.normals(k);
  const auto raw = random.normals(31 * k);
  const reference::Encoded weight = reference::encode(raw, DType::kBf16);
  for (const std::int64_t rows : {0, 1, 5}) {
    for (const bool adds : {false, true}) {
      SCOPED_TRACE(testing::Message() << "T = " << rows << ", added " << adds);
      const auto x = random.normals(rows * k);
      const auto added = random.normals(rows * k);
      auto sum = poisoned(rows * k);
      auto normed = poisoned(rows * k);
      auto y = poisoned(rows * 31);
      const kernels::RmsNormArgs norm{.x = {x.data(), {rows, k}},
                                      .weight = norm_weight.data(),
                                      .eps = 1e-5f,
                                      .y = {normed.data(), {rows, k}},
                                      .added = adds && rows > 0 ? added.data() : nullptr,
                                      .sum = adds && rows > 0 ? sum.data() : nullptr};
      const kernels::LinearArgs product{
          .x = norm.y, .weight = weight.weight(31, k), .y = {y.data(), {rows, 31}}};
      kernels::normed_linears(exec_, norm, {&product, 1});

      auto expected_sum = poisoned(rows * k);
      auto expected_normed = poisoned(rows * k);
      auto expected = poisoned(rows * 31);
      kernels::RmsNormArgs alone = norm;
      alone.y.data = expected_normed.data();
      if (alone.sum != nullptr) alone.sum = expected_sum.data();
      kernels::rms_norm(exec_, alone);
      kernels::linear(
          exec_,
          {.x = alone.y, .weight = weight.weight(31, k), .y = {expected.data(), {rows, 31}}});
      EXPECT_EQ(normed, expected_normed);
      EXPECT_EQ(y, expected);
      EXPECT_EQ(norm.sum != nullptr ? sum : poisoned(0),
                norm.sum != nullptr ? expected_sum : poisoned(0));
    }
  }
}

TEST_P(Linear, OfNormedRowsRefusesOtherRowsAndASumInPlace) {
  std::vector<float> x(8), normed(8), y(4), weight(16);
  const kernels::RmsNormArgs norm{
      .x = {x.data(), {2, 4}}, .weight = weight.data(), .eps = 1e-5f, .y = {normed.data(), {2, 4}}};
  kernels::LinearArgs product{.x = {x.data(), {2, 4}},
                              .weight = {weight.data(), DType::kF32, 2, 4},
                              .y = {y.data(), {2, 2}}};
  EXPECT_THROW(kernels::normed_linears(exec_, norm, {&product, 1}), InvalidArgument);
  product.x = norm.y;
  kernels::RmsNormArgs in_place = norm;
  in_place.added = y.data();
  in_place.sum = x.data();
  EXPECT_THROW(kernels::normed_linears(exec_, in_place, {&product, 1}), InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, Linear, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
