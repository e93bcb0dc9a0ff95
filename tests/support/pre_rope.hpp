// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys before RoPE, by the definition and in double precision.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/random.hpp"

namespace pikv::testing_support {

/// [D / 2], in radians a position: those of the hub's Llama.
inline std::vector<float> some_frequencies(std::int64_t head_dim) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    frequencies.push_back(
        std::pow(10'000.0f, static_cast<float>(-2 * i) / static_cast<float>(head_dim)));
  }
  return frequencies;
}

/// [D, D], orthonormal: a few reflections.
inline std::vector<float> random_rotation(Random& random, std::int64_t head_dim) {
  const auto dim = static_cast<std::size_t>(head_dim);
  std::vector<double> matrix(dim * dim);
  for (std::size_t i = 0; i < dim; ++i) matrix[i * dim + i] = 1.0;
  for (int reflection = 0; reflection < 4; ++reflection) {
    const std::vector<float> axis = random.normals(head_dim);
    double length = 0;
    for (const float x : axis) length += static_cast<double>(x) * static_cast<double>(x);
    for (std::size_t row = 0; row < dim; ++row) {
      double along = 0;
      for (std::size_t i = 0; i < dim; ++i) {
        along += matrix[row * dim + i] * static_cast<double>(axis[i]);
      }
      for (std::size_t i = 0; i < dim; ++i) {
        matrix[row * dim + i] -= 2 * along / length * static_cast<double>(axis[i]);
      }
    }
  }
  return {matrix.begin(), matrix.end()};
}

/// RoPE of a row at a position, with the float32 angles of kernels::rope_table, or back.
inline std::vector<double> turned(std::span<const double> row, std::int32_t position,
                                  std::span<const float> inverse_frequencies, bool back = false) {
  const std::size_t half = inverse_frequencies.size();
  std::vector<double> result(2 * half);
  for (std::size_t i = 0; i < half; ++i) {
    const auto angle = static_cast<double>(static_cast<float>(position) * inverse_frequencies[i]);
    const double cos = std::cos(angle);
    const double sin = back ? -std::sin(angle) : std::sin(angle);
    result[i] = row[i] * cos - row[i + half] * sin;
    result[i + half] = row[i + half] * cos + row[i] * sin;
  }
  return result;
}

/// The key of a slot at `position` that latents [r] stand for in a basis [D, D].
inline std::vector<float> key_of_latents(std::span<const float> latents,
                                         std::span<const float> basis, std::int32_t position,
                                         std::span<const float> inverse_frequencies) {
  const std::size_t dim = 2 * inverse_frequencies.size();
  std::vector<double> before(dim);
  for (std::size_t d = 0; d < dim; ++d) {
    for (std::size_t c = 0; c < latents.size(); ++c) {
      before[d] += static_cast<double>(latents[c]) * static_cast<double>(basis[d * dim + c]);
    }
  }
  const std::vector<double> key = turned(before, position, inverse_frequencies);
  return {key.begin(), key.end()};
}

}  // namespace pikv::testing_support
