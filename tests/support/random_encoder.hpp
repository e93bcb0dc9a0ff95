// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "compression/basis_file.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_basis.hpp"

namespace pikv::testing_support {

/// Nets that say much.
inline Encoder::Nets random_nets(Random& random, const CachedModel& model, std::int64_t rank,
                                 std::int64_t width) {
  Encoder::Nets nets;
  for (std::int64_t head = 0; head < model.num_layers * model.num_kv_heads; ++head) {
    nets.push_back({.rank = rank,
                    .width = width,
                    .in = random.normals((model.head_dim - rank) * width, 0.3f),
                    .out = random.normals(width * rank, 0.3f)});
  }
  return nets;
}

/// A basis of no use to anybody and an encoder that knows nothing either.
inline compression::BasisFile random_encoder_file(Random& random, const CachedModel& model,
                                                  std::int64_t rank, std::int64_t width) {
  compression::BasisFile file;
  file.model = model;
  file.method = "random";
  file.keys = random_operand(random, model);
  file.values = random_operand(random, model);
  file.key_energy.assign(
      static_cast<std::size_t>(model.num_layers * model.num_kv_heads * model.head_dim), 1.0f);
  file.value_energy = file.key_energy;
  Encoder::Nets keys = random_nets(random, model, rank, width);
  file.encoder = {
      .rank = rank, .keys = std::move(keys), .values = random_nets(random, model, rank, width + 3)};
  return file;
}

/// A row of cached coordinates [D] as a sealed page keeps it, by the definition.
inline std::vector<double> encoded(const Encoder::Net& net, std::vector<double> row) {
  const auto rank = static_cast<std::size_t>(net.rank);
  const auto width = static_cast<std::size_t>(net.width);
  for (std::size_t k = 0; k < width; ++k) {
    double x = 0;
    for (std::size_t d = rank; d < row.size(); ++d) {
      x += row[d] * static_cast<double>(net.in[(d - rank) * width + k]);
    }
    const double silu = x / (1 + std::exp(-x));
    for (std::size_t c = 0; c < rank; ++c) {
      row[c] += silu * static_cast<double>(net.out[k * rank + c]);
    }
  }
  for (std::size_t d = rank; d < row.size(); ++d) row[d] = 0;
  return row;
}

}  // namespace pikv::testing_support
