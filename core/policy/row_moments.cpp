// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/row_moments.hpp"

#include <algorithm>
#include <array>

namespace pikv {

RowMoments::RowMoments(std::int64_t head_dim)
    : dim(head_dim),
      sum(static_cast<std::size_t>(head_dim), 0.0),
      products(static_cast<std::size_t>(head_dim * head_dim), 0.0) {}

void RowMoments::add(std::span<const float> rows) {
  constexpr std::size_t kAtOnce = 4;  // rows a pass over the products
  const auto d = static_cast<std::size_t>(dim);
  const std::size_t n = rows.size() / d;
  count += static_cast<std::int64_t>(n);
  std::array<std::vector<double>, kAtOnce> x;
  for (std::vector<double>& row : x) row.resize(d);
  for (std::size_t first = 0; first < n; first += kAtOnce) {
    for (std::size_t r = 0; r < kAtOnce; ++r) {
      const auto* from = rows.data() + (first + r) * d;
      first + r < n ? std::copy_n(from, d, x[r].begin()) : std::fill_n(x[r].begin(), d, 0.0);
    }
    for (std::size_t i = 0; i < d; ++i) {
      double* to = products.data() + i * d;
      sum[i] += x[0][i] + x[1][i] + x[2][i] + x[3][i];
      for (std::size_t j = 0; j < d; ++j) {
        to[j] += x[0][i] * x[0][j] + x[1][i] * x[1][j] + x[2][i] * x[2][j] + x[3][i] * x[3][j];
      }
    }
  }
}

}  // namespace pikv
