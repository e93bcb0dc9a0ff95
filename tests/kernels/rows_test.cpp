// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

class Rows : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

std::vector<std::int32_t> integers(Random& random, std::int64_t count, std::int64_t low,
                                   std::int64_t high) {
  std::vector<std::int32_t> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<std::int32_t>(random.integer(low, high)));
  }
  return values;
}

TEST_P(Rows, GatherWidensTheRowsExactly) {
  Random random(61);
  constexpr std::int64_t kTableRows = 37;
  for (const DType dtype : reference::kDTypes) {
    for (const std::int64_t n : {1, 7, 16, 17, 257}) {
      const reference::Encoded table = reference::encode(random.normals(kTableRows * n), dtype);
      for (const std::int64_t rows : {0, 1, 2, 701}) {
        SCOPED_TRACE(testing::Message() << name(dtype) << ", T = " << rows << ", N = " << n);
        const auto indices = integers(random, rows, 0, kTableRows - 1);
        auto out = poisoned(rows * n);
        kernels::gather_rows(exec_, {.table = table.weight(kTableRows, n),
                                     .indices = {indices.data(), {rows}},
                                     .out = {out.data(), {rows, n}}});
        std::vector<float> expected;
        for (const std::int32_t row : indices) {
          const auto begin = table.values.begin() + static_cast<std::ptrdiff_t>(row * n);
          expected.insert(expected.end(), begin, begin + static_cast<std::ptrdiff_t>(n));
        }
        EXPECT_EQ(out, expected);
      }
    }
  }
}

TEST_P(Rows, AnIndexOutsideTheTableIsRefused) {
  const std::vector<float> table = {1.0f, 2.0f};
  for (const std::int32_t index : {-1, 2}) {
    auto out = poisoned(1);
    EXPECT_THROW(kernels::gather_rows(exec_, {.table = {table.data(), DType::kF32, 2, 1},
                                              .indices = {&index, {1}},
                                              .out = {out.data(), {1, 1}}}),
                 InvalidArgument);
  }
}

TEST_P(Rows, CombineAddsTheWeightedRowsThatAreHere) {
  Random random(62);
  constexpr std::int64_t kSorted = 53;
  for (const std::int64_t n : {1, 7, 64, 257}) {
    const auto rows = random.normals(kSorted * n);
    for (const std::int64_t tokens : {0, 1, 97}) {
      for (const std::int64_t k : {1, 2, 8}) {
        SCOPED_TRACE(testing::Message() << "T = " << tokens << ", K = " << k << ", N = " << n);
        const auto slots = integers(random, tokens * k, -2, kSorted - 1);
        const auto weights = random.normals(tokens * k);
        const auto start = random.normals(tokens * n);
        reference::Expected expected;
        for (std::int64_t i = 0; i < tokens * n; ++i) {
          auto sum = static_cast<double>(start[static_cast<std::size_t>(i)]);
          double magnitude = std::abs(sum);
          for (std::int64_t j = 0; j < k; ++j) {
            const auto choice = static_cast<std::size_t>(i / n * k + j);
            if (slots[choice] < 0) continue;
            const double term =
                static_cast<double>(weights[choice]) *
                static_cast<double>(rows[static_cast<std::size_t>(slots[choice] * n + i % n)]);
            sum += term;
            magnitude += std::abs(term);
          }
          expected.values.push_back(sum);
          expected.bounds.push_back(static_cast<double>(k + 1) * reference::kEpsilon * magnitude);
        }
        std::vector<std::vector<float>> outs(2, start);
        for (auto& out : outs) {
          kernels::combine_rows(exec_, {.rows = {rows.data(), {kSorted, n}},
                                        .slots = {slots.data(), {tokens, k}},
                                        .weights = {weights.data(), {tokens, k}},
                                        .out = {out.data(), {tokens, n}}});
        }
        reference::expect_within(outs[0], expected);
        EXPECT_EQ(outs[0], outs[1]) << "bit for bit";
      }
    }
  }
}

TEST_P(Rows, CombineWorkedByHand) {
  const std::vector<float> rows = {1.0f, 2.0f, 10.0f, 20.0f};
  const std::vector<std::int32_t> slots = {1, -1, 0};
  const std::vector<float> weights = {0.5f, 1000.0f, 2.0f};
  std::vector<float> out = {100.0f, 200.0f};
  kernels::combine_rows(exec_, {.rows = {rows.data(), {2, 2}},
                                .slots = {slots.data(), {1, 3}},
                                .weights = {weights.data(), {1, 3}},
                                .out = {out.data(), {1, 2}}});
  EXPECT_EQ(out, (std::vector<float>{107.0f, 214.0f}));
}

INSTANTIATE_TEST_SUITE_P(Threads, Rows, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
