// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "core/policy/basis.hpp"
#include "tests/support/random.hpp"

namespace pikv::testing_support {

/// Coordinates of no use to anybody: a reflection, each axis stretched, and a mean.
inline Basis::Operand random_operand(Random& random, const CachedModel& model) {
  const auto dim = static_cast<std::size_t>(model.head_dim);
  Basis::Operand operand;
  for (std::int64_t head = 0; head < model.num_layers * model.num_kv_heads; ++head) {
    const std::vector<float> axis = random.normals(model.head_dim);
    const std::vector<float> mean = random.normals(model.head_dim);
    double length = 0;
    std::vector<double> stretch;
    for (const float x : axis) {
      length += static_cast<double>(x) * static_cast<double>(x);
      stretch.push_back(static_cast<double>(random.integer(5, 20)) / 10.0);
    }
    const auto reflection = [&](std::size_t i, std::size_t j) {
      return (i == j ? 1.0 : 0.0) -
             2 * static_cast<double>(axis[i]) * static_cast<double>(axis[j]) / length;
    };
    for (std::size_t i = 0; i < dim; ++i) {
      for (std::size_t j = 0; j < dim; ++j) {
        operand.in.push_back(static_cast<float>(reflection(i, j) * stretch[j]));
        operand.out.push_back(static_cast<float>(reflection(i, j) / stretch[i]));
      }
    }
    operand.mean.insert(operand.mean.end(), mean.begin(), mean.end());
  }
  return operand;
}

inline std::unique_ptr<const Basis> random_basis(Random& random, const CachedModel& model) {
  Basis::Operand keys = random_operand(random, model);
  return std::make_unique<Basis>(model, std::move(keys), random_operand(random, model));
}

}  // namespace pikv::testing_support
