// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The choice is one of equal bits, so it agrees exactly.
#include "kernels/argmax.hpp"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<std::int32_t> largest_of(Exec& exec, const std::vector<float>& x, std::int64_t num_rows,
                                     std::int64_t row_size) {
  Array<float> x_array(exec, x);
  Array<std::int32_t> largest(exec,
                              std::vector<std::int32_t>(static_cast<std::size_t>(num_rows), -7));
  kernels::argmax(exec, {.x = x_array.view(num_rows, row_size), .largest = largest.view(num_rows)});
  return largest.host();
}

class ArgmaxCuda : public CudaParity {
 protected:
  void expect_same(const std::vector<float>& x, std::int64_t num_rows, std::int64_t row_size) {
    SCOPED_TRACE(::testing::Message() << "T = " << num_rows << ", V = " << row_size);
    EXPECT_EQ(largest_of(gpu(), x, num_rows, row_size), largest_of(cpu(), x, num_rows, row_size));
  }
};

TEST_F(ArgmaxCuda, ChoosesAsTheCpuDoesWithAndWithoutTies) {
  for (const std::int64_t row_size : {1, 31, 32, 33, 2047, 2048, 2049, 4099, 65'537, 151'936}) {
    for (const std::int64_t num_rows : {0, 1, 9, 67}) {
      if (num_rows * row_size > 2'000'000) continue;
      std::vector<float> x = random_.normals(num_rows * row_size);
      expect_same(x, num_rows, row_size);
      for (float& value : x) value = std::round(value);
      expect_same(x, num_rows, row_size);
    }
  }
}

TEST_F(ArgmaxCuda, TakesInfinitiesZerosAndNansAsTheCpuDoes) {
  // Every element one of these, on every place of short rows, NaN first among them.
  const std::vector<float> specials = {kNan, -kInfinity, kInfinity, -0.0f, 0.0f, -1e-42f, 1e-42f};
  for (const std::size_t num_kinds : {2u, 4u, 5u, 7u}) {
    for (const std::int64_t row_size : {1, 3, 40, 5000}) {
      const std::int64_t num_rows = row_size > 1000 ? 20 : 300;
      std::vector<float> x(static_cast<std::size_t>(num_rows * row_size));
      for (float& value : x) {
        value =
            specials[static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(num_kinds)))];
      }
      expect_same(x, num_rows, row_size);
    }
  }
  expect_same({kNan, 1.0f, kNan, -0.0f, 0.0f, -1.0f, -kInfinity, kNan, kNan}, 3, 3);
}

TEST_F(ArgmaxCuda, RowsOfMoreThanTheWorkspaceHoldsAtOnce) {
  // 4,194,304 keys of parts fit: one part a row, then a second round of 1,000 rows.
  const std::int64_t num_rows = (std::int64_t{4} << 20) + 1000;
  std::vector<float> x = random_.normals(1009);
  std::vector<float> all(static_cast<std::size_t>(num_rows * 3));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = x[i * 7 % x.size()];
  expect_same(all, num_rows, 3);
}

}  // namespace
}  // namespace pikv::test
