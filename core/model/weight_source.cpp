// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/weight_source.hpp"

#include <algorithm>
#include <cmath>

#include "core/base/random.hpp"
#include "kernels/fill.hpp"

namespace pikv {

WeightView CheckpointSource::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  return checkpoint_.matrix(name, rows, cols);
}

WeightView CheckpointSource::absent(const std::string& name, std::int64_t rows, std::int64_t cols) {
  WeightView view = matrix(name, rows, cols);
  view.data = nullptr;
  return view;
}

WeightVector CheckpointSource::vector(const std::string& name, std::int64_t size) {
  return vectors_.emplace_back(checkpoint_.vector(name, size));
}

WeightView RandomSource::matrix(const std::string& /*name*/, std::int64_t rows, std::int64_t cols) {
  WeightView view{.data = nullptr, .dtype = dtype_, .rows = rows, .cols = cols};
  std::byte* data = place(view.bytes());
  kernels::fill_uniform(exec_, {.data = data,
                                .dtype = dtype_,
                                .count = rows * cols,
                                .limit = std::sqrt(3.0f / static_cast<float>(cols)),
                                .seed = mix_bits(seed_++)});
  view.data = data;
  return view;
}

/// The matrices that follow are the same, whichever are absent.
WeightView RandomSource::absent(const std::string& /*name*/, std::int64_t rows, std::int64_t cols) {
  ++seed_;
  return {.data = nullptr, .dtype = dtype_, .rows = rows, .cols = cols};
}

WeightVector RandomSource::vector(const std::string& name, std::int64_t size) {
  const std::vector<float> numbers(static_cast<std::size_t>(size),
                                   name.ends_with(".bias") ? 0.0f : 1.0f);
  std::byte* data = place(numbers.size() * sizeof(float));
  copy_bytes(exec_, data, exec_.device(), numbers.data(), Device::kCpu,
             numbers.size() * sizeof(float));
  return {reinterpret_cast<const float*>(data), numbers.size()};
}

std::byte* RandomSource::place(std::size_t bytes) {
  constexpr std::size_t kBlockBytes = std::size_t{1} << 28;
  constexpr std::size_t kAlignment = 256;
  if (blocks_.empty() || used_ + bytes > blocks_.back().size()) {
    blocks_.emplace_back(exec_.device(), std::max(bytes, kBlockBytes));
    used_ = 0;
  }
  std::byte* data = blocks_.back().data() + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return data;
}

}  // namespace pikv
