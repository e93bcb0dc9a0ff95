// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/encoder.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// y += x matrix, x [n] and matrix [n, m].
void add_product(std::span<const float> x, const float* matrix, std::span<float> y) {
  for (const float factor : x) {
    for (std::size_t j = 0; j < y.size(); ++j) y[j] += factor * matrix[j];
    matrix += y.size();
  }
}

}  // namespace

Encoder::Encoder(const CachedModel& model, Nets keys, Nets values)
    : model_(model), keys_(std::move(keys)), values_(std::move(values)) {
  check(keys_, "keys");
  check(values_, "values");
}

void Encoder::check(const Nets& nets, const char* name) const {
  const std::int64_t dim = model_.head_dim;
  require(nets.empty() || std::ssize(nets) == std::int64_t{model_.num_layers * model_.num_kv_heads},
          "encoder", name, " have ", nets.size(), " nets for ", model_.num_layers, " x ",
          model_.num_kv_heads, " heads");
  const auto finite = [](float x) { return std::isfinite(x); };
  for (std::size_t head = 0; head < nets.size(); ++head) {
    const Net& net = nets[head];
    if (net.empty()) continue;
    require(net.rank > 0 && net.rank < dim && net.width > 0 &&
                std::ssize(net.in) == (dim - net.rank) * net.width &&
                std::ssize(net.out) == net.width * net.rank,
            "encoder", name, " of head ", head, " are no nets of rank ", net.rank, " and width ",
            net.width, " for a head size of ", dim);
    require(std::ranges::all_of(net.in, finite) && std::ranges::all_of(net.out, finite), "encoder",
            name, " of head ", head, " have numbers that are not finite");
  }
}

void Encoder::encode(const Nets& nets, LayerId layer, HeadId kv_head, std::span<float> rows) const {
  if (nets.empty()) return;
  const Net& net =
      nets.at(index(layer) * static_cast<std::size_t>(model_.num_kv_heads) + index(kv_head));
  if (net.empty()) return;
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  const auto rank = static_cast<std::size_t>(net.rank);
  std::vector<float> hidden(static_cast<std::size_t>(net.width));
  for (; !rows.empty(); rows = rows.subspan(dim)) {
    const std::span<float> kept = rows.first(rank);
    const std::span<float> dropped = rows.subspan(rank, dim - rank);
    std::ranges::fill(hidden, 0.0f);
    add_product(dropped, net.in.data(), hidden);
    for (float& x : hidden) x /= 1.0f + std::exp(-x);
    add_product(hidden, net.out.data(), kept);
    std::ranges::fill(dropped, 0.0f);
  }
}

}  // namespace pikv
