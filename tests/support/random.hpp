// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Random test inputs. The seed of a test is printed when it fails.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace pikv::testing_support {

class Random {
 public:
  explicit Random(std::uint32_t seed)
      : engine_(seed), trace_(__FILE__, __LINE__, testing::Message() << "seed " << seed) {}

  [[nodiscard]] float normal() { return std::normal_distribution<float>()(engine_); }
  /// Uniform in [low, high].
  [[nodiscard]] std::int64_t integer(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  [[nodiscard]] std::vector<float> normals(std::int64_t count, float scale = 1.0f) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = scale * normal();
    return values;
  }

 private:
  std::mt19937 engine_;
  testing::ScopedTrace trace_;
};

/// An output buffer that no correct operation leaves as it is.
[[nodiscard]] inline std::vector<float> poisoned(std::int64_t count) {
  return std::vector<float>(static_cast<std::size_t>(count),
                            std::numeric_limits<float>::quiet_NaN());
}

}  // namespace pikv::testing_support
