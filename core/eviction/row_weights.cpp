// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/row_weights.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/linear.hpp"
#include "kernels/softmax.hpp"

namespace pikv {

View<const float, 2> RowWeights::compute(const SlotGather::Layer& layer, std::size_t kv_head,
                                         std::int64_t first, std::int64_t last) {
  const std::vector<Position>& positions = layer.heads[kv_head].slots.positions;
  const std::int64_t dim = model_.head_dim;
  const auto n = static_cast<std::int64_t>(positions.size());
  const std::int64_t rows = (last - first) * group();
  weights_.resize(static_cast<std::size_t>(rows * n));
  if (weights_.empty()) return {weights_.data(), {rows, n}};
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  queries_.clear();
  for (std::int64_t q = first; q < last; ++q) {
    const float* from = layer.queries.data() +
                        (q * model_.num_heads + static_cast<std::int64_t>(kv_head) * group()) * dim;
    std::transform(from, from + group() * dim, std::back_inserter(queries_),
                   [&](float x) { return x * scale; });
  }
  kernels::linear(exec_, {.x = {queries_.data(), {rows, dim}},
                          .weight = {layer.heads[kv_head].slots.keys.data(), DType::kF32, n, dim},
                          .y = {weights_.data(), {rows, n}}});
  const auto& window = model_.windows[index(layer.layer)];
  lengths_.clear();
  for (std::int64_t row = 0; row < rows; ++row) {
    const Position own = layer.query_positions[static_cast<std::size_t>(first + row / group())];
    const auto end = std::ranges::upper_bound(positions, own) - positions.begin();
    const auto begin =
        window ? std::ranges::upper_bound(positions, own - *window) - positions.begin() : 0;
    std::fill_n(weights_.begin() + row * n, begin, std::numeric_limits<float>::lowest());
    // A query that has nothing left to read attends to nothing.
    lengths_.push_back(static_cast<std::int32_t>(begin < end ? end : 0));
  }
  kernels::softmax(exec_,
                   {.x = {weights_.data(), {rows, n}}, .lengths = {lengths_.data(), {rows}}});
  return {weights_.data(), {rows, n}};
}

}  // namespace pikv
