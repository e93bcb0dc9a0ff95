// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: both sides add K float32 products of unit size, in different orders; the error grows
// with K. Products of TF32 or of an x rounded to 16 bits would miss it by two orders of magnitude.
#include "kernels/linear.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

Tolerance reordered_sum(std::int64_t num_terms) {
  return {1e-6 + 2e-7 * static_cast<double>(num_terms), 1e-6};
}

/// Around the few rows at once (8, 16) and in all (64), the tiles (16, 64), the slab (16) and the
/// chunks (32, of four warps, six ahead) of the kernels.
constexpr std::int64_t kRows[] = {0, 1, 2, 3, 7, 8, 9, 17, 33, 64, 67, 130};
constexpr std::int64_t kInputs[] = {1, 16, 17, 40, 257, 512, 1009, 1288};
constexpr std::int64_t kOutputs[] = {1, 8, 17, 63, 64, 65, 131};

struct Problem {
  std::int64_t rows;
  std::int64_t inputs;
  std::int64_t outputs;
  DType dtype;
  std::vector<float> x;       // [T, K]
  std::vector<float> weight;  // [N, K]
  std::vector<float> bias;    // [N], or empty
};

std::vector<float> solve(Exec& exec, const Problem& problem) {
  Array<float> x(exec, problem.x);
  Array<std::byte> weight(exec, encode(problem.weight, problem.dtype));
  Array<float> bias(exec, problem.bias);
  Array<float> y(exec, poisoned(problem.rows * problem.outputs));
  kernels::linear(exec, {.x = x.view(problem.rows, problem.inputs),
                         .weight = {weight.data(), problem.dtype, problem.outputs, problem.inputs},
                         .bias = problem.bias.empty() ? nullptr : bias.data(),
                         .y = y.view(problem.rows, problem.outputs)});
  return y.host();
}

class LinearCuda : public CudaParity {};

TEST_F(LinearCuda, AgreesWithTheCpuInEveryTypeAndShape) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : kRows) {
      for (const std::int64_t inputs : kInputs) {
        for (const std::int64_t outputs : kOutputs) {
          for (const bool with_bias : {false, true}) {
            SCOPED_TRACE(::testing::Message()
                         << name(dtype) << ", T = " << rows << ", K = " << inputs
                         << ", N = " << outputs << ", bias = " << with_bias);
            const Problem problem{
                .rows = rows,
                .inputs = inputs,
                .outputs = outputs,
                .dtype = dtype,
                .x = random_.normals(rows * inputs),
                .weight = random_.normals(outputs * inputs),
                .bias = with_bias ? random_.normals(outputs) : std::vector<float>{}};
            expect_parity([&](Exec& exec) { return solve(exec, problem); }, reordered_sum(inputs));
          }
        }
      }
    }
  }
}

// x are multiples of 2^-14 in [-2, 2), weights are -1, 0 or 1: every partial sum of 256 products is
// a float32, so any order of summation gives the same bits, and any rounding of x does not.
TEST_F(LinearCuda, RoundsNeitherInputsNorProducts) {
  const std::int64_t inputs = 256;
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {1, 8, 20, 67}) {
      SCOPED_TRACE(::testing::Message() << name(dtype) << ", T = " << rows);
      Problem problem{.rows = rows,
                      .inputs = inputs,
                      .outputs = 65,
                      .dtype = dtype,
                      .x = {},
                      .weight = {},
                      .bias = {}};
      for (std::int64_t i = 0; i < rows * inputs; ++i) {
        problem.x.push_back(static_cast<float>(random_.below(1 << 16) - (1 << 15)) / (1 << 14));
      }
      for (std::int64_t i = 0; i < problem.outputs * inputs; ++i) {
        problem.weight.push_back(static_cast<float>(random_.below(3) - 1));
      }
      std::vector<float> expected;
      for (std::int64_t t = 0; t < rows; ++t) {
        for (std::int64_t n = 0; n < problem.outputs; ++n) {
          double total = 0.0;
          for (std::int64_t k = 0; k < inputs; ++k) {
            total += static_cast<double>(problem.x[static_cast<std::size_t>(t * inputs + k)]) *
                     problem.weight[static_cast<std::size_t>(n * inputs + k)];
          }
          expected.push_back(static_cast<float>(total));
        }
      }
      expect_close(solve(gpu(), problem), expected, kExact);
    }
  }
}

// Slabs (64) that eight blocks of a cluster share evenly or not, units of 64 outputs of which a
// cluster has none, some or more than its turns.
TEST_F(LinearCuda, AgreesInShapesThatClustersTake) {
  for (const std::int64_t rows : {2, 7, 8, 9, 16, 17, 31, 32, 33, 64}) {
    for (const std::int64_t inputs : {512, 576, 1344, 4096}) {
      for (const std::int64_t outputs : {64, 192, 64 * 83}) {
        SCOPED_TRACE(::testing::Message()
                     << "T = " << rows << ", K = " << inputs << ", N = " << outputs);
        const Problem problem{.rows = rows,
                              .inputs = inputs,
                              .outputs = outputs,
                              .dtype = DType::kBf16,
                              .x = random_.normals(rows * inputs),
                              .weight = random_.normals(outputs * inputs),
                              .bias = random_.normals(outputs)};
        expect_parity([&](Exec& exec) { return solve(exec, problem); }, reordered_sum(inputs));
      }
    }
  }
}

TEST_F(LinearCuda, ProductsThatShareALaunchHaveEachTheirOwn) {
  constexpr std::int64_t kInputs = 1024;
  for (const std::int64_t rows : {1, 5, 12, 40}) {
    const std::vector<float> x_values = random_.normals(rows * kInputs);
    std::vector<Problem> problems;
    for (const std::int64_t outputs : {256, 64, 128}) {
      problems.push_back({.rows = rows,
                          .inputs = kInputs,
                          .outputs = outputs,
                          .dtype = DType::kBf16,
                          .x = x_values,
                          .weight = random_.normals(outputs * kInputs),
                          .bias = outputs == 64 ? random_.normals(outputs) : std::vector<float>{}});
    }
    SCOPED_TRACE(::testing::Message() << "T = " << rows);
    expect_parity(
        [&](Exec& exec) {
          Array<float> x(exec, x_values);
          std::vector<Array<std::byte>> weights;
          std::vector<Array<float>> biases;
          std::vector<Array<float>> ys;
          for (const Problem& problem : problems) {
            weights.emplace_back(exec, encode(problem.weight, problem.dtype));
            biases.emplace_back(exec, problem.bias);
            ys.emplace_back(exec, poisoned(rows * problem.outputs));
          }
          std::vector<kernels::LinearArgs> products;
          for (std::size_t i = 0; i < problems.size(); ++i) {
            const Problem& problem = problems[i];
            products.push_back(
                {.x = x.view(rows, kInputs),
                 .weight = {weights[i].data(), problem.dtype, problem.outputs, kInputs},
                 .bias = problem.bias.empty() ? nullptr : biases[i].data(),
                 .y = ys[i].view(rows, problem.outputs)});
          }
          kernels::linears(exec, products);
          std::vector<float> all;
          for (Array<float>& y : ys) {
            const std::vector<float> some = y.host();
            all.insert(all.end(), some.begin(), some.end());
          }
          return all;
        },
        reordered_sum(kInputs));
  }
}

TEST_F(LinearCuda, AnEmptySumIsTheBias) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {1, 9}) {
      SCOPED_TRACE(::testing::Message() << name(dtype) << ", T = " << rows);
      const Problem problem{.rows = rows,
                            .inputs = 0,
                            .outputs = 3,
                            .dtype = dtype,
                            .x = {},
                            .weight = {},
                            .bias = {1.0f, -2.0f, 3.0f}};
      std::vector<float> expected;
      for (std::int64_t t = 0; t < rows; ++t) {
        expected.insert(expected.end(), problem.bias.begin(), problem.bias.end());
      }
      expect_close(solve(gpu(), problem), expected, kExact);
    }
  }
}

TEST_F(LinearCuda, RepeatsBitForBit) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {1, 67}) {
      SCOPED_TRACE(::testing::Message() << name(dtype) << ", T = " << rows);
      const Problem problem{.rows = rows,
                            .inputs = 1009,
                            .outputs = 131,
                            .dtype = dtype,
                            .x = random_.normals(rows * 1009),
                            .weight = random_.normals(131 * 1009),
                            .bias = {}};
      expect_close(solve(gpu(), problem), solve(gpu(), problem), kExact);
    }
  }
  for (const std::int64_t rows : {8, 32, 64}) {
    SCOPED_TRACE(::testing::Message() << "in clusters, T = " << rows);
    const Problem problem{.rows = rows,
                          .inputs = 1344,
                          .outputs = 2112,
                          .dtype = DType::kBf16,
                          .x = random_.normals(rows * 1344),
                          .weight = random_.normals(2112 * 1344),
                          .bias = {}};
    expect_close(solve(gpu(), problem), solve(gpu(), problem), kExact);
  }
}

}  // namespace
}  // namespace pikv::test
