// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// KvCache between the model's coordinates and those of its pages.
#include "core/cache/kv_cache.hpp"
#include "kernels/head_maps.hpp"

namespace pikv {

/// Rows [n, D] of one head, in place.
void KvCache::map_rows(const Basis::Map& map, HeadId kv_head, std::span<float> rows) const {
  if (map.empty() || rows.empty()) return;
  const Basis::Map of_head = map.of_head(kv_head);
  const std::int64_t dim = config_.head_dim;
  const View<float, 3> view{rows.data(), {static_cast<std::int64_t>(rows.size()) / dim, 1, dim}};
  kernels::head_maps(exec_, {.x = view,
                             .maps = of_head.maps,
                             .before = of_head.before,
                             .after = of_head.after,
                             .y = view});
}

/// With keys and values in the basis, valid until the next call.
KvCache::Entries KvCache::in_basis(const Entries& entries) {
  if (config_.basis == nullptr) return entries;
  const auto mapped = [&](const Basis::Map& map, View<const float, 3> rows,
                          std::vector<float>& to) -> View<const float, 3> {
    if (map.empty()) return rows;
    to.resize(static_cast<std::size_t>(rows.size()));
    kernels::head_maps(exec_, {.x = rows,
                               .maps = map.maps,
                               .before = map.before,
                               .after = map.after,
                               .y = {to.data(), rows.extents}});
    return {to.data(), rows.extents};
  };
  Entries result = entries;
  result.keys = mapped(config_.basis->of_keys(entries.layer), entries.keys, keys_in_basis_);
  result.values = mapped(config_.basis->of_values(entries.layer), entries.values, values_in_basis_);
  return result;
}

/// What updates add to rows in the basis, [n, D], or nothing where these are the model's own: with
/// y = (v - mean) in, a value of scale * v + addend has scale * y + (addend + (scale - 1) mean) in.
std::vector<float> KvCache::addends_in_basis(const StreamId& id,
                                             std::span<const ValueUpdate> updates) const {
  if (config_.basis == nullptr || config_.basis->values().empty()) return {};
  Basis::Map map = config_.basis->of_values(id.layer);
  std::vector<float> addends;
  for (const ValueUpdate& update : updates) {
    const float* mean = map.before.extent(0) > 0
                            ? map.before.row(static_cast<std::int64_t>(index(id.kv_head)))
                            : nullptr;
    for (std::int64_t d = 0; d < config_.head_dim; ++d) {
      addends.push_back(update.addend[d] + (mean ? (update.scale - 1) * mean[d] : 0.0f));
    }
  }
  map.before = {nullptr, {0, config_.head_dim}};
  map_rows(map, id.kv_head, addends);
  return addends;
}

}  // namespace pikv
