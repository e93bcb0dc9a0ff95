// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The same operation on the CPU and on the GPU. A test gives a function that stages its inputs in
// the memory of an Exec, runs the operation there and returns the result to the host; it runs once
// on each. Skipped on a machine without a GPU.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/dtype.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::test {

inline constexpr DType kDTypes[] = {DType::kF32, DType::kBf16, DType::kF16};

/// Seeded by the environment variable PIKV_TEST_SEED, otherwise anew each time.
class Random {
 public:
  Random();

  [[nodiscard]] std::string describe() const;
  [[nodiscard]] float normal() { return normal_(engine_); }
  /// In [0, end).
  [[nodiscard]] std::int64_t below(std::int64_t end);
  [[nodiscard]] std::vector<float> normals(std::int64_t count, float scale = 1.0f);

 private:
  std::uint64_t seed_;
  std::mt19937_64 engine_;
  std::normal_distribution<float> normal_;
};

/// Outputs begin as NaN, so that an element that was not written shows.
[[nodiscard]] std::vector<float> poisoned(std::int64_t count);

/// Values in the memory format of `dtype`.
[[nodiscard]] std::vector<std::byte> encode(const std::vector<float>& values, DType dtype);

/// |cuda - cpu| <= absolute + relative * |cpu|; infinities are equal or wrong, and so is NaN.
struct Tolerance {
  double absolute;
  double relative;
};
inline constexpr Tolerance kExact{0.0, 0.0};

void expect_close(const std::vector<float>& cuda, const std::vector<float>& cpu,
                  Tolerance tolerance);

/// An array in the memory of an Exec.
template <class T>
class Array {
 public:
  Array(Exec& exec, const std::vector<T>& values)
      : exec_(exec), buffer_(exec.device(), values.size()) {
    copy_bytes(exec_, buffer_.data(), exec.device(), values.data(), Device::kCpu,
               values.size() * sizeof(T));
  }

  [[nodiscard]] T* data() { return buffer_.data(); }

  template <class... Extents>
  [[nodiscard]] auto view(Extents... extents) {
    constexpr std::size_t kRank = sizeof...(Extents);
    return View<T, kRank>{buffer_.data(), {static_cast<std::int64_t>(extents)...}};
  }

  [[nodiscard]] std::vector<T> host() {
    std::vector<T> values(buffer_.size());
    copy_bytes(exec_, values.data(), Device::kCpu, buffer_.data(), exec_.device(),
               values.size() * sizeof(T));
    exec_.synchronize();
    return values;
  }

 private:
  Exec& exec_;
  DeviceBuffer<T> buffer_;
};

class CudaParity : public ::testing::Test {
 protected:
  void SetUp() override;

  [[nodiscard]] Exec& cpu() { return cpu_; }
  [[nodiscard]] Exec& gpu() { return *gpu_; }

  /// `run(exec)` returns a std::vector<float>.
  template <class Run>
  void expect_parity(const Run& run, Tolerance tolerance) {
    expect_close(run(gpu()), run(cpu()), tolerance);
  }

  Random random_;

 private:
  ::testing::ScopedTrace trace_{__FILE__, __LINE__, random_.describe()};
  Exec cpu_ = Exec::cpu(2);
  std::optional<Exec> gpu_;
};

}  // namespace pikv::test
