// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/parity.hpp"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"

namespace pikv::test {
namespace {

std::uint64_t choose_seed() {
  const char* text = std::getenv("PIKV_TEST_SEED");
  return text == nullptr ? std::random_device{}() : std::strtoull(text, nullptr, 10);
}

bool is_close(float cuda, float cpu, Tolerance tolerance) {
  if (cuda == cpu) return true;  // infinities, too
  if (!std::isfinite(cuda) || !std::isfinite(cpu)) return false;
  const double difference = std::abs(static_cast<double>(cuda) - static_cast<double>(cpu));
  return difference <= tolerance.absolute + tolerance.relative * std::abs(static_cast<double>(cpu));
}

}  // namespace

Random::Random() : seed_(choose_seed()), engine_(seed_) {}

std::string Random::describe() const { return concat("PIKV_TEST_SEED=", seed_); }

std::int64_t Random::below(std::int64_t end) {
  return std::uniform_int_distribution<std::int64_t>(0, end - 1)(engine_);
}

std::vector<float> Random::normals(std::int64_t count, float scale) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = scale * normal();
  return values;
}

std::vector<float> poisoned(std::int64_t count) {
  return std::vector<float>(static_cast<std::size_t>(count),
                            std::numeric_limits<float>::quiet_NaN());
}

std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_bytes(dtype));
  dispatch_dtype(dtype, [&]<class T>() {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const T value = from_float<T>(values[i]);
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
  });
  return bytes;
}

void expect_close(const std::vector<float>& cuda, const std::vector<float>& cpu,
                  Tolerance tolerance) {
  ASSERT_EQ(cuda.size(), cpu.size());
  std::size_t num_wrong = 0;
  std::size_t first_wrong = 0;
  for (std::size_t i = 0; i < cuda.size(); ++i) {
    if (is_close(cuda[i], cpu[i], tolerance)) continue;
    if (num_wrong++ == 0) first_wrong = i;
  }
  if (num_wrong == 0) return;
  ADD_FAILURE() << num_wrong << " of " << cuda.size() << " elements differ; the first is ["
                << first_wrong << "]: CUDA " << cuda[first_wrong] << ", CPU " << cpu[first_wrong]
                << ", allowed " << tolerance.absolute << " + " << tolerance.relative << " * |CPU|";
}

void CudaParity::SetUp() {
  if (describe_cuda_devices().empty()) GTEST_SKIP() << "no CUDA device";
  gpu_.emplace(Exec::cuda(0));
}

}  // namespace pikv::test
