// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerances: sums and clamps round once on both sides (a fused product may save one rounding);
// exp differs by a few ulp.
#include "kernels/elementwise.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr std::int64_t kRows[] = {0, 1, 7, 64};
constexpr std::int64_t kCols[] = {1, 16, 31, 257, 1009};
constexpr Tolerance kOneRounding{1e-6, 1e-6};
constexpr Tolerance kExponential{1e-6, 5e-6};

class ElementwiseCuda : public CudaParity {
 protected:
  template <class Body>
  static void for_each_shape(const Body& body) {
    for (const std::int64_t rows : kRows) {
      for (const std::int64_t cols : kCols) {
        SCOPED_TRACE(::testing::Message() << "shape [" << rows << ", " << cols << "]");
        body(rows, cols);
      }
    }
  }
};

TEST_F(ElementwiseCuda, SiluMulAgreesWithTheCpu) {
  for_each_shape([&](std::int64_t rows, std::int64_t cols) {
    const auto gate = random_.normals(rows * cols, 4.0f);
    const auto up = random_.normals(rows * cols);
    expect_parity(
        [&](Exec& exec) {
          Array<float> gate_array(exec, gate);
          Array<float> up_array(exec, up);
          Array<float> out(exec, poisoned(rows * cols));
          kernels::silu_mul(exec, {.gate = gate_array.view(rows, cols),
                                   .up = up_array.view(rows, cols),
                                   .out = out.view(rows, cols)});
          return out.host();
        },
        kExponential);
  });
}

TEST_F(ElementwiseCuda, SiluMulMayWriteOverItsGate) {
  for_each_shape([&](std::int64_t rows, std::int64_t cols) {
    const auto gate = random_.normals(rows * cols, 4.0f);
    const auto up = random_.normals(rows * cols);
    expect_parity(
        [&](Exec& exec) {
          Array<float> gate_array(exec, gate);
          Array<float> up_array(exec, up);
          kernels::silu_mul(exec, {.gate = gate_array.view(rows, cols),
                                   .up = up_array.view(rows, cols),
                                   .out = gate_array.view(rows, cols)});
          return gate_array.host();
        },
        kExponential);
  });
}

TEST_F(ElementwiseCuda, SiluOfLargeInputsStaysFinite) {
  const std::vector<float> gate = {-1000.0f, -100.0f, -88.0f, 0.0f, 88.0f, 100.0f, 1000.0f};
  const std::vector<float> up(gate.size(), 1.0f);
  expect_parity(
      [&](Exec& exec) {
        Array<float> gate_array(exec, gate);
        Array<float> up_array(exec, up);
        Array<float> out(exec, poisoned(7));
        kernels::silu_mul(
            exec,
            {.gate = gate_array.view(1, 7), .up = up_array.view(1, 7), .out = out.view(1, 7)});
        return out.host();
      },
      kExponential);
}

TEST_F(ElementwiseCuda, AddAgreesBitForBit) {
  for_each_shape([&](std::int64_t rows, std::int64_t cols) {
    const auto x = random_.normals(rows * cols);
    const auto y = random_.normals(rows * cols);
    expect_parity(
        [&](Exec& exec) {
          Array<float> x_array(exec, x);
          Array<float> y_array(exec, y);
          kernels::add(exec, {.x = x_array.view(rows, cols), .y = y_array.view(rows, cols)});
          return y_array.host();
        },
        kExact);
  });
}

TEST_F(ElementwiseCuda, SigmoidGatedAddAgreesWithTheCpu) {
  for_each_shape([&](std::int64_t rows, std::int64_t cols) {
    const auto gate = random_.normals(rows, 4.0f);
    const auto x = random_.normals(rows * cols);
    const auto y = random_.normals(rows * cols);
    expect_parity(
        [&](Exec& exec) {
          Array<float> gate_array(exec, gate);
          Array<float> x_array(exec, x);
          Array<float> y_array(exec, y);
          kernels::sigmoid_gated_add(exec, {.gate = gate_array.view(rows),
                                            .x = x_array.view(rows, cols),
                                            .y = y_array.view(rows, cols)});
          return y_array.host();
        },
        kOneRounding);
  });
}

TEST_F(ElementwiseCuda, ClampAgreesBitForBit) {
  for_each_shape([&](std::int64_t rows, std::int64_t cols) {
    const auto x = random_.normals(rows * cols, 2.0f);
    expect_parity(
        [&](Exec& exec) {
          Array<float> x_array(exec, x);
          kernels::clamp(exec, {.limit = 1.5f, .x = x_array.view(rows, cols)});
          return x_array.host();
        },
        kExact);
  });
}

}  // namespace
}  // namespace pikv::test
