// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/basis.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "kernels/common/error.hpp"
#include "kernels/head_maps.hpp"

namespace pikv {
namespace {

/// Of matrices [n, D, D].
std::vector<float> transposes_of(std::span<const float> matrices, std::size_t dim) {
  std::vector<float> result(matrices.size());
  for (std::size_t first = 0; first < result.size(); first += dim * dim) {
    for (std::size_t i = 0; i < dim; ++i) {
      for (std::size_t j = 0; j < dim; ++j) {
        result[first + i * dim + j] = matrices[first + j * dim + i];
      }
    }
  }
  return result;
}

}  // namespace

Basis::Basis(const CachedModel& model, Operand keys, Operand values)
    : model_(model), keys_(std::move(keys)), values_(std::move(values)) {
  check(keys_, "keys");
  check(values_, "values");
  query_maps_ = transposes_of(keys_.out, static_cast<std::size_t>(model.head_dim));
}

void Basis::check(const Operand& operand, const char* name) const {
  if (operand.empty() && operand.out.empty() && operand.mean.empty()) return;
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  const auto num_heads = static_cast<std::size_t>(model_.num_layers * model_.num_kv_heads);
  require(operand.in.size() == num_heads * dim * dim &&
              (operand.out.empty() || operand.out.size() == operand.in.size()) &&
              (operand.mean.empty() || operand.mean.size() == num_heads * dim),
          "basis", name, " are not [", model_.num_layers, ", ", model_.num_kv_heads, ", ", dim,
          ", ", dim, "]");
  const auto finite = [](float x) { return std::isfinite(x); };
  require(std::ranges::all_of(operand.in, finite) && std::ranges::all_of(operand.out, finite) &&
              std::ranges::all_of(operand.mean, finite),
          "basis", name, " have numbers that are not finite");
  for (std::size_t head = 0; head < num_heads; ++head) {
    const std::span in(operand.in.data() + head * dim * dim, dim * dim);
    std::vector<float> transposed;
    if (operand.out.empty()) transposed = transposes_of(in, dim);
    const float* out =
        operand.out.empty() ? transposed.data() : operand.out.data() + head * dim * dim;
    std::vector<float> product(dim);
    for (std::size_t i = 0; i < dim; ++i) {
      std::ranges::fill(product, 0.0f);
      product[i] = -1.0f;
      for (std::size_t k = 0; k < dim; ++k) {
        for (std::size_t j = 0; j < dim; ++j) product[j] += in[i * dim + k] * out[k * dim + j];
      }
      require(std::ranges::all_of(product, [](float x) { return std::abs(x) < 1e-3f; }), "basis",
              name, " of head ", head, ": 'in' and ",
              operand.out.empty() ? "its transpose" : "'out'", " do not undo each other");
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
  return {{maps.row(head), {1, dim, dim}}, row_of(before), row_of(after), transposed};
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
  const bool transposed = operand.out.empty();
  return {maps_of(transposed ? operand.in : operand.out, layer),
          {nullptr, {0, model_.head_dim}},
          means_of(operand, layer),
          transposed};
}

Basis::Map Basis::of_queries(LayerId layer) const {
  const Means none{nullptr, {0, model_.head_dim}};
  return {maps_of(keys_.out.empty() ? keys_.in : query_maps_, layer), none, none};
}

std::size_t Basis::bytes() const {
  std::size_t floats = query_maps_.capacity();
  for (const Operand* operand : {&keys_, &values_}) {
    floats += operand->in.capacity() + operand->out.capacity() + operand->mean.capacity();
  }
  return sizeof(*this) + floats * sizeof(float);
}

// A transpose is made on the way, for one row costs as much: so it need not be kept.
void map_heads(Exec& exec, const Basis::Map& map, View<const float, 3> x, View<float, 3> y) {
  const auto on_device = [&]<std::size_t kRank>(View<const float, kRank> view) {
    view.data = exec.on_device(std::span(view.data, static_cast<std::size_t>(view.size())));
    return view;
  };
  std::vector<float> transposed;
  Basis::Maps maps = map.maps;
  if (map.transposed) {
    transposed = transposes_of({maps.data, static_cast<std::size_t>(maps.size())},
                               static_cast<std::size_t>(maps.extent(1)));
    maps.data = transposed.data();
  }
  kernels::head_maps(exec, {.x = x,
                            .maps = on_device(maps),
                            .before = on_device(map.before),
                            .after = on_device(map.after),
                            .y = y});
}

}  // namespace pikv
