// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The experts of a mixture on the GPU against their definition in double precision on the host.
#include "kernels/experts.hpp"

#include <cmath>

#include "kernels/common/dispatch.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

struct Shape {
  std::int64_t rows, num_experts, num_chosen, hidden, width;
};

/// Which experts rows take.
enum class Choice { kFirstOften, kLowerHalf, kLast };

struct Sums {
  std::vector<float> y;
  std::vector<double> expected;
};

class ExpertsCuda : public CudaParity {
 protected:
  /// Numbers as `dtype` has them, in double precision.
  static std::vector<double> decoded(const std::vector<std::byte>& bytes, DType dtype) {
    std::vector<double> numbers;
    dispatch_dtype(dtype, [&]<class T>() {
      const auto* items = reinterpret_cast<const T*>(bytes.data());
      for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
        numbers.push_back(static_cast<double>(to_float(items[i])));
      }
    });
    return numbers;
  }

  static ::testing::Message describe(const Shape& shape, DType dtype, bool with_bias) {
    const auto [rows, num_experts, k, hidden, width] = shape;
    return ::testing::Message() << "T = " << rows << ", E = " << num_experts << ", K = " << k
                                << ", hidden = " << hidden << ", width = " << width << ", "
                                << name(dtype) << (with_bias ? ", biases" : "");
  }

  /// `every_other`: those with odd numbers are elsewhere.
  void expect_sums(const Shape& shape, DType dtype, bool with_bias, bool every_other = false) {
    SCOPED_TRACE(describe(shape, dtype, with_bias) << (every_other ? ", every other here" : ""));
    const Sums sums = run(shape, dtype, with_bias, Choice::kFirstOften, every_other);
    std::vector<float> expected;
    for (const double sum : sums.expected) expected.push_back(static_cast<float>(sum));
    expect_close(sums.y, expected, {1e-4, 1e-4});
  }

  /// Of all outputs together: every one has an error, and the root of their mean square says how
  /// products were rounded far better than the largest does.
  double relative_error(const Shape& shape, DType product_dtype, bool with_bias, Choice choice) {
    gpu().set_product_dtype(product_dtype);
    const Sums sums = run(shape, DType::kBf16, with_bias, choice);
    gpu().set_product_dtype(DType::kF32);
    double error = 0;
    double size = 0;
    for (std::size_t i = 0; i < sums.y.size(); ++i) {
      error += std::pow(static_cast<double>(sums.y[i]) - sums.expected[i], 2);
      size += std::pow(sums.expected[i], 2);
    }
    return std::sqrt(error / size);
  }

  Sums run(const Shape& shape, DType dtype, bool with_bias, Choice choice,
           bool every_other = false) {
    const auto [rows, num_experts, k, hidden, width] = shape;
    const auto is_here = [&](std::int64_t expert) { return !every_other || expert % 2 == 0; };
    const std::vector<float> x = random_.normals(rows * hidden);
    const std::vector<float> mix = random_.normals(rows * k);
    std::vector<std::int32_t> experts;
    for (std::int64_t t = 0; t < rows; ++t) {  // distinct ones
      const std::int64_t num_taken =
          choice == Choice::kLowerHalf ? (num_experts + 1) / 2 : num_experts;
      std::int64_t first = random_.below(2) == 0 ? 0 : random_.below(num_taken);
      if (choice == Choice::kLast) first = num_experts - k;
      for (std::int64_t i = 0; i < k; ++i) {
        experts.push_back(static_cast<std::int32_t>((first + i) % num_taken));
      }
    }
    std::vector<std::vector<double>> gates, ups, downs;
    std::vector<Array<std::byte>> matrices;
    std::vector<std::vector<float>> biases;
    std::vector<Array<float>> biases_on_gpu;
    matrices.reserve(static_cast<std::size_t>(3 * num_experts));
    std::vector<kernels::ExpertMatrices> table;
    const auto matrix = [&](std::int64_t size, std::int64_t inputs, auto& numbers) {
      const float scale = 1.0f / std::sqrt(static_cast<float>(inputs));
      const std::vector<std::byte> bytes = encode(random_.normals(size, scale), dtype);
      numbers.push_back(decoded(bytes, dtype));
      return matrices.emplace_back(gpu(), bytes).data();
    };
    biases_on_gpu.reserve(static_cast<std::size_t>(3 * num_experts));
    const auto bias = [&](std::int64_t size) -> const float* {
      biases.push_back(with_bias ? random_.normals(size)
                                 : std::vector<float>(static_cast<std::size_t>(size)));
      if (!with_bias) return nullptr;
      return biases_on_gpu.emplace_back(gpu(), biases.back()).data();
    };
    for (std::int64_t e = 0; e < num_experts; ++e) {
      kernels::ExpertMatrices& row = table.emplace_back();
      row.gate = matrix(width * hidden, hidden, gates);
      row.up = matrix(width * hidden, hidden, ups);
      row.down = matrix(hidden * width, width, downs);
      row.gate_bias = bias(width);
      row.up_bias = bias(width);
      row.down_bias = bias(hidden);
      if (!is_here(e)) row.gate = row.up = row.down = nullptr;
    }
    const std::int64_t words = kernels::num_expert_words(rows * k, num_experts);
    Array<float> x_on_gpu(gpu(), x);
    Array<float> mix_on_gpu(gpu(), mix);
    Array<std::int32_t> experts_on_gpu(gpu(), experts);
    Array<kernels::ExpertMatrices> table_on_gpu(gpu(), table);
    Array<float> inner(gpu(), poisoned(rows * k * width));
    Array<float> outputs(gpu(), poisoned(rows * k * hidden));
    Array<std::int32_t> pairs(gpu(), std::vector<std::int32_t>(static_cast<std::size_t>(words)));
    Array<float> y(gpu(), poisoned(rows * hidden));
    kernels::experts(gpu(), {.x = x_on_gpu.view(rows, hidden),
                             .experts = experts_on_gpu.view(rows, k),
                             .mix = mix_on_gpu.view(rows, k),
                             .table = table_on_gpu.view(num_experts),
                             .some_elsewhere = every_other,
                             .dtype = dtype,
                             .inner = inner.view(rows * k, width),
                             .outputs = outputs.view(rows * k, hidden),
                             .pairs = pairs.view(words),
                             .y = y.view(rows, hidden)});
    std::vector<double> expected;
    const auto dot = [](const std::vector<double>& weight, std::int64_t row, const auto& v,
                        std::int64_t first, std::int64_t size) {
      double sum = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        sum += weight[static_cast<std::size_t>(row * size + i)] *
               static_cast<double>(v[static_cast<std::size_t>(first + i)]);
      }
      return sum;
    };
    for (std::int64_t t = 0; t < rows; ++t) {
      std::vector<double> sums(static_cast<std::size_t>(hidden));
      for (std::int64_t i = 0; i < k; ++i) {
        const auto e = static_cast<std::size_t>(experts[static_cast<std::size_t>(t * k + i)]);
        if (!is_here(static_cast<std::int64_t>(e))) continue;
        std::vector<double> between;
        for (std::int64_t n = 0; n < width; ++n) {
          const auto at = static_cast<std::size_t>(n);
          const double gate =
              dot(gates[e], n, x, t * hidden, hidden) + static_cast<double>(biases[3 * e][at]);
          const double up =
              dot(ups[e], n, x, t * hidden, hidden) + static_cast<double>(biases[3 * e + 1][at]);
          between.push_back(gate / (1 + std::exp(-gate)) * up);
        }
        for (std::int64_t c = 0; c < hidden; ++c) {
          const auto at = static_cast<std::size_t>(c);
          sums[at] +=
              static_cast<double>(mix[static_cast<std::size_t>(t * k + i)]) *
              (dot(downs[e], c, between, 0, width) + static_cast<double>(biases[3 * e + 2][at]));
        }
      }
      expected.insert(expected.end(), sums.begin(), sums.end());
    }
    return {y.host(), expected};
  }
};

TEST_F(ExpertsCuda, AddUpInEveryTypeAndShape) {
  for (const DType dtype : kDTypes) {
    expect_sums({1, 8, 2, 64, 32}, dtype, false);
    expect_sums({3, 4, 4, 72, 40}, dtype, true);
    expect_sums({5, 1, 1, 33, 17}, dtype, false);
    expect_sums({40, 8, 3, 64, 24}, dtype, true);
    expect_sums({17, 12, 3, 1288, 776}, dtype, true);  // several rounds of a warp's chunks
    expect_sums({50, 2, 1, 1032, 40}, dtype, false);   // several groups of an expert
  }
}

TEST_F(ExpertsCuda, ServeManyRowsAndManyExperts) {
  expect_sums({1300, 6, 4, 16, 16}, DType::kBf16, false);  // more pairs than shared memory keeps
  expect_sums({2, 1024, 3, 16, 8}, DType::kBf16, false);
}

TEST_F(ExpertsCuda, LeaveOutThoseThatAreElsewhere) {
  expect_sums({1, 8, 2, 64, 32}, DType::kBf16, true, true);
  expect_sums({1, 8, 1, 64, 32}, DType::kBf16, true, true);
  expect_sums({3, 4, 4, 72, 40}, DType::kF32, true, true);
  expect_sums({40, 9, 3, 64, 24}, DType::kBf16, true, true);
  expect_sums({33, 40, 5, 264, 136}, DType::kBf16, true, true);
  expect_sums({1300, 6, 4, 16, 16}, DType::kBf16, false, true);
  expect_sums({301, 9, 3, 64, 24}, DType::kBf16, true, true);
}

struct ManyRows {
  Shape shape;
  bool with_bias;
  Choice choice;
};

/// Around what blocks of the tensor-core kernels take: 128 rows, 128 or 256 outputs, 32 inputs.
constexpr ManyRows kManyRows[] = {
    {{65, 4, 1, 32, 32}, false, Choice::kFirstOften},
    {{129, 6, 3, 40, 24}, true, Choice::kFirstOften},  // tails of inputs and of outputs
    {{301, 8, 2, 72, 136}, true, Choice::kLowerHalf},  // and experts that nobody chose
    {{131, 16, 1, 264, 128}, false, Choice::kLast},    // all rows on one expert
    {{257, 1, 1, 128, 520}, true, Choice::kLast},      // the only one
    {{641, 5, 5, 8, 8}, false, Choice::kFirstOften},   // less than a slab; all experts
    {{1100, 1024, 4, 16, 8}, false, Choice::kFirstOften},
    {{2049, 130, 2, 64, 48}, false, Choice::kFirstOften}};

// Tensor cores cut a sum off at 2^-23 of its size every 8 or 16 products, always towards zero: with
// 500 inputs some 1e-6 of it. Without the smallest part of x or of what lies between the products,
// up to 2^-15 of each number would be missing, and of their sums 1e-5.
TEST_F(ExpertsCuda, RoundNothingButSumsOfManyRows) {
  for (const ManyRows& many : kManyRows) {
    SCOPED_TRACE(describe(many.shape, DType::kBf16, many.with_bias));
    EXPECT_LT(relative_error(many.shape, DType::kF32, many.with_bias, many.choice), 3e-6);
  }
}

// Rounding to bfloat16 changes a number by 2^-9 = 2e-3 at most, half of it on average, in x and
// between the products; errors of an output's terms are independent of each other.
TEST_F(ExpertsCuda, RoundManyRowsWhereTheExecAsksForIt) {
  for (const ManyRows& many : kManyRows) {
    SCOPED_TRACE(describe(many.shape, DType::kBf16, many.with_bias));
    const double error = relative_error(many.shape, DType::kBf16, many.with_bias, many.choice);
    EXPECT_LT(error, 8e-3);
    EXPECT_GT(error, 1e-4) << "nothing was rounded";
  }
}

// hidden and width that no copy of 16 bytes fits, and too few rows an expert.
TEST_F(ExpertsCuda, ServeManyRowsOfOtherShapes) {
  expect_sums({131, 4, 2, 20, 12}, DType::kBf16, true);
  expect_sums({70, 64, 3, 32, 16}, DType::kBf16, false);
  expect_sums({131, 4, 2, 32, 16}, DType::kF16, false);
}

// 256 MiB hold the parts of 22,000 such rows. Sums of more inputs lose more, see above.
TEST_F(ExpertsCuda, TakeMoreRowsThanTheirRoomHoldsInRuns) {
  EXPECT_LT(relative_error({23001, 2, 1, 2024, 8}, DType::kF32, true, Choice::kFirstOften), 8e-6);
}

TEST_F(ExpertsCuda, RepeatManyRowsBitForBit) {
  const Shape shape{301, 8, 2, 72, 136};
  std::vector<float> first;
  const Random seeded = random_;
  for (int i = 0; i < 2; ++i) {
    random_ = seeded;
    const Sums sums = run(shape, DType::kBf16, true, Choice::kFirstOften);
    if (i == 0) first = sums.y;
    if (i == 1) expect_close(sums.y, first, kExact);
  }
}

}  // namespace
}  // namespace pikv::test
