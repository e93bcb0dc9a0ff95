// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a basis is fitted to: sums over the rows of one head that were seen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pikv {

struct RowMoments {
  explicit RowMoments(std::int64_t head_dim);

  /// rows [n, D]; n D^2 products.
  void add(std::span<const float> rows);

  std::int64_t dim;
  std::int64_t count = 0;
  std::vector<double> sum;       // [D]
  std::vector<double> products;  // [D, D], of x^T x
};

}  // namespace pikv
