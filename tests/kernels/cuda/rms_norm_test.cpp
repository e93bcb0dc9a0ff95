// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: the two sides add the squares in different orders.
#include "kernels/rms_norm.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kReordered{1e-6, 1e-5};
constexpr float kEps = 1e-5f;

class RmsNormCuda : public CudaParity {};

TEST_F(RmsNormCuda, AgreesWithTheCpuForEveryWidth) {
  for (const std::int64_t rows : {0, 1, 7, 67}) {
    for (const std::int64_t cols : {1, 16, 31, 128, 511, 512, 513, 1009, 4096}) {
      SCOPED_TRACE(::testing::Message() << "shape [" << rows << ", " << cols << "]");
      const auto x = random_.normals(rows * cols, 3.0f);
      const auto weight = random_.normals(cols);
      expect_parity(
          [&](Exec& exec) {
            Array<float> x_array(exec, x);
            Array<float> weight_array(exec, weight);
            Array<float> y(exec, poisoned(rows * cols));
            kernels::rms_norm(exec, {.x = x_array.view(rows, cols),
                                     .weight = weight_array.data(),
                                     .eps = kEps,
                                     .y = y.view(rows, cols)});
            return y.host();
          },
          kReordered);
    }
  }
}

TEST_F(RmsNormCuda, MayWriteOverItsInput) {
  for (const std::int64_t cols : {127, 2048}) {
    const std::int64_t rows = 13;
    const auto x = random_.normals(rows * cols);
    const auto weight = random_.normals(cols);
    expect_parity(
        [&](Exec& exec) {
          Array<float> x_array(exec, x);
          Array<float> weight_array(exec, weight);
          kernels::rms_norm(exec, {.x = x_array.view(rows, cols),
                                   .weight = weight_array.data(),
                                   .eps = kEps,
                                   .y = x_array.view(rows, cols)});
          return x_array.host();
        },
        kReordered);
  }
}

TEST_F(RmsNormCuda, StoresTheSumThatItNormalises) {
  for (const std::int64_t cols : {1, 127, 256, 257, 2048, 5000}) {
    const std::int64_t rows = 13;
    const auto x = random_.normals(rows * cols);
    const auto added = random_.normals(rows * cols);
    const auto weight = random_.normals(cols);
    expect_parity(
        [&](Exec& exec) {
          Array<float> x_array(exec, x);
          Array<float> added_array(exec, added);
          Array<float> weight_array(exec, weight);
          Array<float> y(exec, poisoned(rows * cols));
          kernels::rms_norm(exec, {.x = x_array.view(rows, cols),
                                   .weight = weight_array.data(),
                                   .eps = kEps,
                                   .y = y.view(rows, cols),
                                   .added = added_array.data(),
                                   .sum = x_array.data()});
          std::vector<float> both = y.host();
          const std::vector<float> sums = x_array.host();
          both.insert(both.end(), sums.begin(), sums.end());
          return both;
        },
        kReordered);
  }
}

}  // namespace
}  // namespace pikv::test
