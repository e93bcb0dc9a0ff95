// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products with bfloat16 weights on a GPU. Of a few rows: what a layer of qwen3-30b-a3b and its
// head multiply in a decode step, in calls that follow each other, each with weights that are not
// in the cache. Of many: linear, and the experts of two mixtures, with products kept (f32) and
// rounded (bf16; Exec::set_product_dtype). Times are medians between events of the stream. TFLOP/s
// count each product once, however many parts it is made of; the last column is the time of one
// plain bfloat16 product of cuBLAS over it, of as many flops: for experts all pairs of rows and
// experts against one matrix as wide as gate, up and down together.
//
//   build/release/tests/bench/cuda_products_bench [few | linear | qwen | mixtral ...]
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/experts.hpp"
#include "kernels/linear.hpp"
#include "tests/bench/cuda_bench.hpp"

namespace pikv {
namespace {

using bench::upload;

constexpr std::int64_t kRows[] = {512, 2048, 8192};
constexpr DType kModes[] = {DType::kF32, DType::kBf16};

struct Mixture {
  std::string_view name;
  std::int64_t hidden;
  std::int64_t width;
  std::int64_t num_experts;
  std::int64_t num_chosen;
};
constexpr Mixture kMixtures[] = {{"qwen3-30b-a3b", 2048, 768, 128, 8},
                                 {"mixtral-8x7b", 4096, 14336, 8, 2}};

/// Normal numbers; a million of them are drawn, which then repeat.
template <class T>
std::vector<T> normals(std::int64_t count, float scale) {
  std::mt19937 engine(11);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<T> values(static_cast<std::size_t>(count));
  const auto drawn = std::min<std::size_t>(values.size(), (1 << 20) + 7);
  std::generate_n(values.begin(), drawn, [&] { return from_float<T>(normal(engine)); });
  for (std::size_t i = drawn; i < values.size(); ++i) values[i] = values[i - drawn];
  return values;
}

DeviceBuffer<BFloat16> weights(Exec& exec, std::int64_t count, std::int64_t num_inputs) {
  return upload(exec, normals<BFloat16>(count, 1.0f / std::sqrt(static_cast<float>(num_inputs))));
}

/// Microseconds of one product [rows, inputs] x [outputs, inputs] of bfloat16 numbers.
double plain_time(Exec& exec, std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  const DeviceBuffer<BFloat16> x = weights(exec, rows * inputs, 1);
  const DeviceBuffer<BFloat16> weight = weights(exec, outputs * inputs, inputs);
  DeviceBuffer<float> y(Device::kCuda, static_cast<std::size_t>(rows * outputs));
  const float one = 1.0f;
  const float zero = 0.0f;
  return bench::Events(exec).median([&](int) {
    cuda::check(cublasGemmEx_64(exec.cuda_context().blas.get(), CUBLAS_OP_T, CUBLAS_OP_N, outputs,
                                rows, inputs, &one, weight.data(), CUDA_R_16BF, inputs, x.data(),
                                CUDA_R_16BF, inputs, &zero, y.data(), CUDA_R_32F, outputs,
                                CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                "plain product");
  });
}

void print(std::string_view what, std::int64_t rows, std::string_view mode, double time,
           double flops, double plain) {
  std::printf("%-22s %6lld rows %-5s %10.1f us %7.1f TFLOP/s %6.1f %% of plain\n",
              std::string(what).c_str(), static_cast<long long>(rows), std::string(mode).c_str(),
              time, flops / time * 1e-6, 100.0 * plain / time);
  std::fflush(stdout);
}

void measure_linear(Exec& exec, std::int64_t rows) {
  constexpr std::int64_t kInputs = 2048;
  constexpr std::int64_t kOutputs = 4096;
  const DeviceBuffer<float> x = upload(exec, normals<float>(rows * kInputs, 1.0f));
  const DeviceBuffer<BFloat16> weight = weights(exec, kOutputs * kInputs, kInputs);
  DeviceBuffer<float> y(Device::kCuda, static_cast<std::size_t>(rows * kOutputs));
  const double flops = 2.0 * static_cast<double>(rows * kInputs * kOutputs);
  const double plain = plain_time(exec, rows, kInputs, kOutputs);
  print("linear 2,048 x 4,096", rows, "plain", plain, flops, plain);
  for (const DType mode : kModes) {
    exec.set_product_dtype(mode);
    const double time = bench::Events(exec).median([&](int) {
      kernels::linear(exec, {.x = {x.data(), {rows, kInputs}},
                             .weight = {weight.data(), DType::kBf16, kOutputs, kInputs},
                             .y = {y.data(), {rows, kOutputs}}});
    });
    print("linear 2,048 x 4,096", rows, name(mode), time, flops, plain);
  }
}

/// `outputs`: of products that share a launch.
void measure_few(Exec& exec, std::string_view what, std::int64_t inputs,
                 std::span<const std::int64_t> outputs) {
  constexpr std::int64_t kMostRows = 64;
  constexpr std::size_t kBytesOfAll = std::size_t{512} << 20;  // of weights, which take turns
  std::int64_t all_outputs = 0;
  for (const std::int64_t count : outputs) all_outputs += count;
  const auto bytes = static_cast<std::size_t>(all_outputs * inputs) * sizeof(BFloat16);
  const auto copies = static_cast<std::int64_t>(std::max<std::size_t>(kBytesOfAll / bytes, 2));
  const auto calls = std::min<std::int64_t>(copies, 48);
  const DeviceBuffer<BFloat16> weight = weights(exec, copies * all_outputs * inputs, inputs);
  const DeviceBuffer<float> x = upload(exec, normals<float>(kMostRows * inputs, 1.0f));
  DeviceBuffer<float> y(Device::kCuda, static_cast<std::size_t>(kMostRows * all_outputs));
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 24, 32, 64}) {
    const double time = bench::Events(exec).median([&](int turn) {
      for (std::int64_t call = 0; call < calls; ++call) {
        const std::int64_t copy = (turn * calls + call) % copies;
        const BFloat16* from = weight.data() + copy * all_outputs * inputs;
        float* to = y.data();
        std::vector<kernels::LinearArgs> products;
        for (const std::int64_t count : outputs) {
          products.push_back({.x = {x.data(), {rows, inputs}},
                              .weight = {from, DType::kBf16, count, inputs},
                              .y = {to, {rows, count}}});
          from += count * inputs;
          to += rows * count;
        }
        kernels::linears(exec, products);
      }
    }) / static_cast<double>(calls);
    std::printf("%-26s %3lld rows %8.2f us %8.1f GB/s of weights\n", std::string(what).c_str(),
                static_cast<long long>(rows), time, static_cast<double>(bytes) / time * 1e-3);
    std::fflush(stdout);
  }
}

void measure_few(Exec& exec) {
  measure_few(exec, "q k v, 2,048 to 5,120", 2048, std::array<std::int64_t, 3>{4096, 512, 512});
  measure_few(exec, "output, 4,096 to 2,048", 4096, std::array<std::int64_t, 1>{2048});
  measure_few(exec, "router, 2,048 to 128", 2048, std::array<std::int64_t, 1>{128});
  measure_few(exec, "head, 2,048 to 151,936", 2048, std::array<std::int64_t, 1>{151'936});
}

/// All experts in one buffer, each its own gate, up and down.
class Experts {
 public:
  Experts(Exec& exec, const Mixture& mixture)
      : size_(mixture.hidden * mixture.width),
        weights_(weights(exec, 3 * size_ * mixture.num_experts, mixture.hidden)) {
    std::vector<kernels::ExpertMatrices> table;
    for (std::int64_t e = 0; e < mixture.num_experts; ++e) {
      const BFloat16* first = weights_.data() + 3 * size_ * e;
      table.push_back({.gate = first,
                       .up = first + size_,
                       .down = first + 2 * size_,
                       .gate_bias = nullptr,
                       .up_bias = nullptr,
                       .down_bias = nullptr});
    }
    table_ = upload(exec, table);
  }

  [[nodiscard]] View<const kernels::ExpertMatrices, 1> table() const {
    return {table_.data(), {static_cast<std::int64_t>(table_.size())}};
  }

 private:
  std::int64_t size_;  // of a matrix
  DeviceBuffer<BFloat16> weights_;
  DeviceBuffer<kernels::ExpertMatrices> table_{Device::kCuda};
};

void measure_experts(Exec& exec, const Mixture& mixture, const Experts& experts,
                     std::int64_t rows) {
  const std::int64_t num_pairs = rows * mixture.num_chosen;
  const std::int64_t num_words = kernels::num_expert_words(num_pairs, mixture.num_experts);
  std::vector<std::int32_t> all(static_cast<std::size_t>(mixture.num_experts));
  for (std::size_t e = 0; e < all.size(); ++e) all[e] = static_cast<std::int32_t>(e);
  std::vector<std::int32_t> chosen;
  std::mt19937 engine(3);
  for (std::int64_t t = 0; t < rows; ++t) {
    std::ranges::shuffle(all, engine);
    chosen.insert(chosen.end(), all.begin(), all.begin() + mixture.num_chosen);
  }
  const DeviceBuffer<float> x = upload(exec, normals<float>(rows * mixture.hidden, 1.0f));
  const DeviceBuffer<std::int32_t> choices = upload(exec, chosen);
  const DeviceBuffer<float> mix = upload(exec, normals<float>(num_pairs, 1.0f));
  DeviceBuffer<float> inner(Device::kCuda, static_cast<std::size_t>(num_pairs * mixture.width));
  DeviceBuffer<float> outputs(Device::kCuda, static_cast<std::size_t>(num_pairs * mixture.hidden));
  DeviceBuffer<std::int32_t> pairs(Device::kCuda, static_cast<std::size_t>(num_words));
  DeviceBuffer<float> y(Device::kCuda, x.size());
  const double flops = 6.0 * static_cast<double>(num_pairs * mixture.hidden * mixture.width);
  const double plain = plain_time(exec, num_pairs, mixture.hidden, 3 * mixture.width);
  print(mixture.name, rows, "plain", plain, flops, plain);
  for (const DType mode : kModes) {
    exec.set_product_dtype(mode);
    const double time = bench::Events(exec).median([&](int) {
      kernels::experts(exec, {.x = {x.data(), {rows, mixture.hidden}},
                              .experts = {choices.data(), {rows, mixture.num_chosen}},
                              .mix = {mix.data(), {rows, mixture.num_chosen}},
                              .table = experts.table(),
                              .dtype = DType::kBf16,
                              .inner = {inner.data(), {num_pairs, mixture.width}},
                              .outputs = {outputs.data(), {num_pairs, mixture.hidden}},
                              .pairs = {pairs.data(), {num_words}},
                              .y = {y.data(), {rows, mixture.hidden}}});
    });
    print(mixture.name, rows, name(mode), time, flops, plain);
  }
}

int run(std::span<char*> names) {
  if (describe_cuda_devices().empty()) {
    std::puts("no CUDA device");
    return 0;
  }
  std::puts(describe_cuda_devices().front().c_str());
  Exec exec = Exec::cuda(0);
  const auto is_asked = [&](std::string_view what) {
    return names.empty() ||
           std::ranges::any_of(names, [&](const char* name) { return what.starts_with(name); });
  };
  if (is_asked("few")) measure_few(exec);
  if (is_asked("linear")) {
    for (const std::int64_t rows : kRows) measure_linear(exec, rows);
  }
  for (const Mixture& mixture : kMixtures) {
    if (!is_asked(mixture.name)) continue;
    const Experts experts(exec, mixture);
    for (const std::int64_t rows : kRows) measure_experts(exec, mixture, experts, rows);
  }
  return 0;
}

}  // namespace
}  // namespace pikv

int main(int argc, char** argv) {
  return pikv::run({argv + 1, static_cast<std::size_t>(argc - 1)});
}
