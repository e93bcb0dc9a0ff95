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

  /// `every_other`: those with odd numbers are elsewhere.
  void expect_sums(const Shape& shape, DType dtype, bool with_bias, bool every_other = false) {
    const auto [rows, num_experts, k, hidden, width] = shape;
    SCOPED_TRACE(::testing::Message() << "T = " << rows << ", E = " << num_experts << ", K = " << k
                                      << ", hidden = " << hidden << ", width = " << width << ", "
                                      << name(dtype) << (with_bias ? ", biases" : "")
                                      << (every_other ? ", every other elsewhere" : ""));
    const auto is_here = [&](std::int64_t expert) { return !every_other || expert % 2 == 0; };
    const std::vector<float> x = random_.normals(rows * hidden);
    const std::vector<float> mix = random_.normals(rows * k);
    std::vector<std::int32_t> experts;
    for (std::int64_t t = 0; t < rows; ++t) {  // distinct ones, the first often the same
      const std::int64_t first = random_.below(2) == 0 ? 0 : random_.below(num_experts);
      for (std::int64_t i = 0; i < k; ++i) {
        experts.push_back(static_cast<std::int32_t>((first + i) % num_experts));
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
    std::vector<float> expected;
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
      for (const double sum : sums) expected.push_back(static_cast<float>(sum));
    }
    expect_close(y.host(), expected, {1e-4, 1e-4});
  }
};

TEST_F(ExpertsCuda, AddUpInEveryTypeAndShape) {
  for (const DType dtype : kDTypes) {
    expect_sums({1, 8, 2, 64, 32}, dtype, false);
    expect_sums({3, 4, 4, 72, 40}, dtype, true);
    expect_sums({5, 1, 1, 33, 17}, dtype, false);
    expect_sums({40, 8, 3, 64, 24}, dtype, true);
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
  expect_sums({1300, 6, 4, 16, 16}, DType::kBf16, false, true);
}

}  // namespace
}  // namespace pikv::test
