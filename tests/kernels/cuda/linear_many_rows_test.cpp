// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of many rows with bfloat16 weights against sums in double precision of the same numbers:
// x as it is, or rounded to bfloat16 where the Exec asks for it.
//
// Tolerance, relative to sum |x w|: products are exact; every 8 or 16 of them, tensor cores cut a
// partial sum off at 2^-23 or less of its size, about the root of K times a product's. K / 8 such
// errors of half the last place, over K products: in proportion to the root of K, 2e-8 of it with
// the largest sums of a test in mind. Where x is rounded and should not be, or the reverse, a sum
// of K terms differs by some 2e-3 / sqrt(K).
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/linear.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

struct Shape {
  std::int64_t rows, inputs, outputs;
};

class LinearManyRowsCuda : public CudaParity {
 protected:
  static float rounded(float x) {
    const std::vector<std::byte> bytes = encode({x}, DType::kBf16);
    BFloat16 item;
    std::memcpy(&item, bytes.data(), sizeof(item));
    return to_float(item);
  }

  std::vector<float> solve(const Shape& shape, const std::vector<float>& x,
                           const std::vector<float>& weight, const std::vector<float>& bias) {
    Array<float> x_there(gpu(), x);
    Array<std::byte> weight_there(gpu(), encode(weight, DType::kBf16));
    Array<float> bias_there(gpu(), bias);
    Array<float> y(gpu(), poisoned(shape.rows * shape.outputs));
    kernels::linear(gpu(),
                    {.x = x_there.view(shape.rows, shape.inputs),
                     .weight = {weight_there.data(), DType::kBf16, shape.outputs, shape.inputs},
                     .bias = bias.empty() ? nullptr : bias_there.data(),
                     .y = y.view(shape.rows, shape.outputs)});
    return y.host();
  }

  void expect_sums(const Shape& shape, DType product_dtype, bool with_bias,
                   const std::vector<float>& x) {
    SCOPED_TRACE(::testing::Message()
                 << "T = " << shape.rows << ", K = " << shape.inputs << ", N = " << shape.outputs
                 << ", products in " << name(product_dtype) << ", bias = " << with_bias);
    std::vector<float> weight = random_.normals(shape.outputs * shape.inputs);
    for (float& w : weight) w = rounded(w);
    const std::vector<float> bias =
        with_bias ? random_.normals(shape.outputs) : std::vector<float>{};
    gpu().set_product_dtype(product_dtype);
    const std::vector<float> y = solve(shape, x, weight, bias);
    gpu().set_product_dtype(DType::kF32);
    std::vector<float> seen = x;
    if (product_dtype == DType::kBf16) {
      for (float& item : seen) item = rounded(item);
    }
    const double tolerance = 5e-7 + 2e-8 * std::sqrt(static_cast<double>(shape.inputs));
    double worst = 0.0;
    std::int64_t worst_at = 0;
    for (std::int64_t i = 0; i < shape.rows * shape.outputs; ++i) {
      const float* row = seen.data() + i / shape.outputs * shape.inputs;
      const float* of_output = weight.data() + i % shape.outputs * shape.inputs;
      double sum = with_bias ? bias[static_cast<std::size_t>(i % shape.outputs)] : 0.0f;
      double size = std::abs(sum);
      for (std::int64_t k = 0; k < shape.inputs; ++k) {
        const double product = static_cast<double>(row[k]) * static_cast<double>(of_output[k]);
        sum += product;
        size += std::abs(product);
      }
      const double error =
          std::abs(static_cast<double>(y[static_cast<std::size_t>(i)]) - sum) / size;
      if (std::isnan(error) || error > worst) {
        worst = error;
        worst_at = i;
      }
      if (std::isnan(error)) break;
    }
    EXPECT_LE(worst, tolerance) << "at row " << worst_at / shape.outputs << ", output "
                                << worst_at % shape.outputs;
  }
};

TEST_F(LinearManyRowsCuda, RoundsWhatTheExecAsksFor) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool with_bias : {false, true}) {
      for (const Shape& shape : {Shape{65, 8, 1}, Shape{67, 1, 5}, Shape{129, 64, 131},
                                 Shape{128, 1032, 64}, Shape{301, 257, 33}, Shape{77, 1009, 127}}) {
        expect_sums(shape, dtype, with_bias, random_.normals(shape.rows * shape.inputs));
      }
    }
  }
}

TEST_F(LinearManyRowsCuda, ServesMoreOutputsThanAGridIsHigh) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const Shape& shape : {Shape{67, 8, 70'001}, Shape{2, 16, 250'003}}) {
      expect_sums(shape, dtype, true, random_.normals(shape.rows * shape.inputs));
    }
  }
}

// 256 MiB hold the parts of 5,461 such rows.
TEST_F(LinearManyRowsCuda, TakesMoreRowsThanItsRoomHoldsInRuns) {
  const Shape shape{5601, 8192, 5};
  for (const bool with_bias : {false, true}) {
    expect_sums(shape, DType::kF32, with_bias, random_.normals(shape.rows * shape.inputs));
  }
}

TEST_F(LinearManyRowsCuda, KeepsNumbersOfAnySizeBesideEachOther) {
  const Shape shape{131, 200, 65};
  std::vector<float> x = random_.normals(shape.rows * shape.inputs);
  for (float& item : x) item = std::ldexp(item, static_cast<int>(random_.below(61)) - 30);
  expect_sums(shape, DType::kF32, false, x);
}

// Rows that do not begin at 16 bytes: x is read a number at a time.
TEST_F(LinearManyRowsCuda, ReadsRowsThatAreNotAligned) {
  const Shape shape{66, 24, 17};
  const std::vector<float> x = random_.normals(shape.rows * shape.inputs + 1);
  std::vector<float> weight = random_.normals(shape.outputs * shape.inputs);
  Array<float> x_there(gpu(), x);
  Array<std::byte> weight_there(gpu(), encode(weight, DType::kBf16));
  Array<float> y(gpu(), poisoned(shape.rows * shape.outputs));
  kernels::linear(gpu(),
                  {.x = {x_there.data() + 1, {shape.rows, shape.inputs}},
                   .weight = {weight_there.data(), DType::kBf16, shape.outputs, shape.inputs},
                   .y = y.view(shape.rows, shape.outputs)});
  expect_close(y.host(), solve(shape, {x.begin() + 1, x.end()}, weight, {}), kExact);
}

// Weights that pick one input each: every bit of a number comes through its three parts, and the
// largest ones do not overflow on the way.
TEST_F(LinearManyRowsCuda, KeepsEveryBitOfEveryNumber) {
  const Shape shape{96, 40, 40};
  std::vector<float> x;
  for (std::int64_t t = 0; t < shape.rows; ++t) {
    const auto exponent = t == 0 ? 127 : static_cast<int>(random_.below(188)) - 60;
    for (std::int64_t k = 0; k < shape.inputs; ++k) {
      const float significand = 1.0f + static_cast<float>(random_.below(1 << 23)) * 0x1p-23f;
      x.push_back(std::ldexp(random_.below(2) == 0 ? significand : -significand,
                             exponent - static_cast<int>(random_.below(4))));
    }
  }
  x[0] = std::numeric_limits<float>::max();
  x[1] = std::numeric_limits<float>::lowest();
  std::vector<float> weight(static_cast<std::size_t>(shape.outputs * shape.inputs));
  for (std::int64_t n = 0; n < shape.outputs; ++n) {
    weight[static_cast<std::size_t>(n * shape.inputs + n)] = 0x1p-20f;
  }
  std::vector<float> expected = x;
  for (float& item : expected) item *= 0x1p-20f;
  expect_close(solve(shape, x, weight, {}), expected, kExact);
}

TEST_F(LinearManyRowsCuda, KeepsNaNToItsRow) {
  const Shape shape{70, 32, 9};
  std::vector<float> x = random_.normals(shape.rows * shape.inputs);
  x[static_cast<std::size_t>(3 * shape.inputs + 7)] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y = solve(shape, x, random_.normals(shape.outputs * shape.inputs), {});
  for (std::int64_t i = 0; i < shape.rows * shape.outputs; ++i) {
    EXPECT_EQ(std::isnan(y[static_cast<std::size_t>(i)]), i / shape.outputs == 3) << "at " << i;
  }
}

}  // namespace
}  // namespace pikv::test
