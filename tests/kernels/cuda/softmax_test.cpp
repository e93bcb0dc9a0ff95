// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: exponentials of unit logits in float32, and their sums in another order.
#include "kernels/softmax.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

class SoftmaxCuda : public CudaParity {};

TEST_F(SoftmaxCuda, AgreesOnRowsOfAnyLength) {
  for (const std::int64_t num_rows : {0, 1, 7, 131}) {
    for (const std::int64_t num_cols : {1, 16, 17, 331, 4096}) {
      SCOPED_TRACE(::testing::Message() << num_rows << " rows of " << num_cols);
      const auto logits = random_.normals(num_rows * num_cols, 4.0f);
      std::vector<std::int32_t> lengths;
      for (std::int64_t i = 0; i < num_rows; ++i) {
        lengths.push_back(static_cast<std::int32_t>(
            i == 0 ? num_cols : (i == 1 ? 0 : random_.below(num_cols + 1))));
      }
      expect_parity(
          [&](Exec& exec) {
            Array<float> x(exec, logits);
            Array<std::int32_t> lengths_array(exec, lengths);
            kernels::softmax(
                exec, {.x = x.view(num_rows, num_cols), .lengths = lengths_array.view(num_rows)});
            return x.host();
          },
          {1e-7, 1e-5});
    }
  }
}

}  // namespace
}  // namespace pikv::test
