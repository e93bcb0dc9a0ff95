// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/basis.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"

namespace pikv {

Basis::Basis(const CachedModel& model, Operand keys, Operand values)
    : model_(model), keys_(std::move(keys)), values_(std::move(values)) {
  check(keys_, "keys");
  check(values_, "values");
  const auto dim = static_cast<std::size_t>(model.head_dim);
  query_maps_.resize(keys_.out.size());
  for (std::size_t first = 0; first < query_maps_.size(); first += dim * dim) {
    for (std::size_t i = 0; i < dim; ++i) {
      for (std::size_t j = 0; j < dim; ++j) {
        query_maps_[first + j * dim + i] = keys_.out[first + i * dim + j];
      }
    }
  }
}

void Basis::check(const Operand& operand, const char* name) const {
  if (operand.empty() && operand.out.empty() && operand.mean.empty()) return;
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  const auto num_heads = static_cast<std::size_t>(model_.num_layers * model_.num_kv_heads);
  require(operand.in.size() == num_heads * dim * dim && operand.out.size() == operand.in.size() &&
              (operand.mean.empty() || operand.mean.size() == num_heads * dim),
          "basis", name, " are not [", model_.num_layers, ", ", model_.num_kv_heads, ", ", dim,
          ", ", dim, "]");
  const auto finite = [](float x) { return std::isfinite(x); };
  require(std::ranges::all_of(operand.in, finite) && std::ranges::all_of(operand.out, finite) &&
              std::ranges::all_of(operand.mean, finite),
          "basis", name, " have numbers that are not finite");
  for (std::size_t head = 0; head < num_heads; ++head) {
    const float* in = operand.in.data() + head * dim * dim;
    const float* out = operand.out.data() + head * dim * dim;
    std::vector<float> product(dim);
    for (std::size_t i = 0; i < dim; ++i) {
      std::ranges::fill(product, 0.0f);
      product[i] = -1.0f;
      for (std::size_t k = 0; k < dim; ++k) {
        for (std::size_t j = 0; j < dim; ++j) product[j] += in[i * dim + k] * out[k * dim + j];
      }
      require(std::ranges::all_of(product, [](float x) { return std::abs(x) < 1e-3f; }), "basis",
              name, " of head ", head, ": 'in' and 'out' do not undo each other");
    }
  }
}

Basis::Map Basis::Map::of_head(HeadId kv_head) const {
  if (empty()) return *this;
  const auto head = static_cast<std::int64_t>(index(kv_head));
  const std::int64_t dim = maps.extent(1);
  const auto row_of = [&](const Means& means) -> Means {
    if (means.extent(0) == 0) return means;
    return {means.row(head), {1, dim}};
  };
  return {{maps.row(head), {1, dim, dim}}, row_of(before), row_of(after)};
}

Basis::Maps Basis::maps_of(const std::vector<float>& matrices, LayerId layer) const {
  const std::int64_t dim = model_.head_dim;
  if (matrices.empty()) return {nullptr, {0, dim, dim}};
  const auto first = static_cast<std::int64_t>(index(layer)) * model_.num_kv_heads * dim * dim;
  return {matrices.data() + first, {model_.num_kv_heads, dim, dim}};
}

Basis::Means Basis::means_of(const Operand& operand, LayerId layer) const {
  const std::int64_t dim = model_.head_dim;
  if (operand.mean.empty()) return {nullptr, {0, dim}};
  const auto first = static_cast<std::int64_t>(index(layer)) * model_.num_kv_heads * dim;
  return {operand.mean.data() + first, {model_.num_kv_heads, dim}};
}

Basis::Map Basis::forward(const Operand& operand, LayerId layer) const {
  return {maps_of(operand.in, layer), means_of(operand, layer), {nullptr, {0, model_.head_dim}}};
}

Basis::Map Basis::backward(const Operand& operand, LayerId layer) const {
  return {maps_of(operand.out, layer), {nullptr, {0, model_.head_dim}}, means_of(operand, layer)};
}

Basis::Map Basis::of_queries(LayerId layer) const {
  const Means none{nullptr, {0, model_.head_dim}};
  return {maps_of(query_maps_, layer), none, none};
}

}  // namespace pikv
