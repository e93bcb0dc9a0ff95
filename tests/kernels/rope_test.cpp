// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernels/common/error.hpp"
#include "kernels/rms_norm.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

class Rope : public testing::TestWithParam<int> {
 protected:
  struct Table {
    std::vector<float> angles, cos, sin;  // [T, D / 2]
  };

  Table table(const std::vector<std::int32_t>& positions, const std::vector<float>& frequencies) {
    const auto rows = static_cast<std::int64_t>(positions.size());
    const auto half = static_cast<std::int64_t>(frequencies.size());
    Table table{.angles = {}, .cos = poisoned(rows * half), .sin = poisoned(rows * half)};
    for (const std::int32_t position : positions) {
      // A float32 product: the rounding of the angle is part of the model.
      for (const float f : frequencies) table.angles.push_back(static_cast<float>(position) * f);
    }
    kernels::rope_table(exec_, {.positions = {positions.data(), {rows}},
                                .inverse_frequencies = {frequencies.data(), {half}},
                                .cos = {table.cos.data(), {rows, half}},
                                .sin = {table.sin.data(), {rows, half}}});
    return table;
  }

  std::vector<std::int32_t> random_positions(Random& random, std::int64_t rows) {
    std::vector<std::int32_t> positions;
    for (std::int64_t t = 0; t < rows; ++t) {
      positions.push_back(static_cast<std::int32_t>(random.integer(0, 200'000)));
    }
    return positions;
  }

  static std::vector<float> frequencies(std::int64_t head_dim) {
    std::vector<float> result;
    for (std::int64_t i = 0; i < head_dim / 2; ++i) {
      result.push_back(static_cast<float>(
          std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim))));
    }
    return result;
  }

  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(Rope, TheTableHoldsCosinesAndSinesOfFloatAngles) {
  Random random(31);
  for (const std::int64_t rows : {0, 1, 3, 257}) {
    for (const std::int64_t head_dim : {2, 14, 64, 128}) {
      const Table result = table(random_positions(random, rows), frequencies(head_dim));
      for (std::size_t i = 0; i < result.angles.size(); ++i) {
        const auto angle = static_cast<double>(result.angles[i]);
        ASSERT_NEAR(static_cast<double>(result.cos[i]), std::cos(angle), 1.2e-7) << angle;
        ASSERT_NEAR(static_cast<double>(result.sin[i]), std::sin(angle), 1.2e-7) << angle;
      }
    }
  }
}

TEST_P(Rope, RotatesChannelIWithChannelIPlusHalf) {
  Random random(32);
  for (const std::int64_t rows : {0, 1, 3, 257}) {
    for (const std::int64_t heads : {1, 5}) {
      for (const std::int64_t head_dim : {2, 14, 64, 128}) {
        SCOPED_TRACE(testing::Message()
                     << "T = " << rows << ", H = " << heads << ", D = " << head_dim);
        const Table angles = table(random_positions(random, rows), frequencies(head_dim));
        auto x = random.normals(rows * heads * head_dim);
        const reference::Expected expected =
            reference::rope(x, angles.angles, rows, heads, head_dim);
        kernels::rope(exec_, {.cos = {angles.cos.data(), {rows, head_dim / 2}},
                              .sin = {angles.sin.data(), {rows, head_dim / 2}},
                              .x = {x.data(), {rows, heads, head_dim}}});
        reference::expect_within(x, expected);
      }
    }
  }
}

TEST_P(Rope, ScoresDependOnTheDistanceOfPositionsOnly) {
  Random random(33);
  const auto q = random.normals(64);
  const auto k = random.normals(64);
  const auto score = [&](std::int32_t query_position, std::int32_t key_position) {
    const Table angles = table({query_position, key_position}, frequencies(64));
    std::vector<float> both = q;
    both.insert(both.end(), k.begin(), k.end());
    kernels::rope(exec_, {.cos = {angles.cos.data(), {2, 32}},
                          .sin = {angles.sin.data(), {2, 32}},
                          .x = {both.data(), {2, 1, 64}}});
    double sum = 0.0;
    for (std::size_t d = 0; d < 64; ++d) {
      sum += static_cast<double>(both[d]) * static_cast<double>(both[64 + d]);
    }
    return sum;
  };
  EXPECT_NEAR(score(7, 3), score(107, 103), 1e-3);
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-2) << "another distance is another score";
}

TEST_P(Rope, HeadsAreNormalisedFirstAndTensorsTurnTogether) {
  Random random(9);
  const Table angles = table({3, 70}, frequencies(32));
  const std::vector<float> norm = random.normals(32);
  std::vector<float> q = random.normals(2 * 3 * 32);
  std::vector<float> k = random.normals(2 * 32);
  const auto apart = [&](std::vector<float> x, std::int64_t heads) {
    kernels::rms_norm(exec_, {.x = {x.data(), {2 * heads, 32}},
                              .weight = norm.data(),
                              .eps = 1e-6f,
                              .y = {x.data(), {2 * heads, 32}}});
    kernels::rope(exec_, {.cos = {angles.cos.data(), {2, 16}},
                          .sin = {angles.sin.data(), {2, 16}},
                          .x = {x.data(), {2, heads, 32}}});
    return x;
  };
  const std::vector<float> expected_q = apart(q, 3);
  const std::vector<float> expected_k = apart(k, 1);
  const auto turn = [&](std::vector<float>& x, std::int64_t heads) {
    return kernels::RopeArgs{.cos = {angles.cos.data(), {2, 16}},
                             .sin = {angles.sin.data(), {2, 16}},
                             .x = {x.data(), {2, heads, 32}},
                             .norm = norm.data(),
                             .eps = 1e-6f};
  };
  const std::array both = {turn(q, 3), turn(k, 1)};
  kernels::ropes(exec_, both);
  EXPECT_EQ(q, expected_q);
  EXPECT_EQ(k, expected_k);
}

TEST_P(Rope, AnOddHeadSizeIsRefused) {
  std::vector<float> x(3, 1.0f);
  EXPECT_THROW(kernels::rope(exec_, {.cos = {x.data(), {1, 1}},
                                     .sin = {x.data(), {1, 1}},
                                     .x = {x.data(), {1, 1, 3}}}),
               InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, Rope, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
