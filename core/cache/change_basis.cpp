// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// KvCache between the model's coordinates and those of its pages.
#include <algorithm>

#include "core/cache/kv_cache.hpp"

namespace pikv {

const Basis* KvCache::basis_of(SequenceId sequence) const {
  const SequenceBasis* own = sequence_of(sequence).own_basis.get();
  return own != nullptr ? &own->basis : config_.basis;
}

/// Rows [n, D] of one head, in place.
void KvCache::map_rows(const Basis::Map& map, HeadId kv_head, std::span<float> rows) const {
  if (map.empty() || rows.empty()) return;
  const std::int64_t dim = config_.head_dim;
  const View<float, 3> view{rows.data(), {static_cast<std::int64_t>(rows.size()) / dim, 1, dim}};
  map_heads(exec_, map.of_head(kv_head), view, view);
}

/// Rows [n, D] of one head back to the model's coordinates, in place.
void KvCache::leave_basis(const Basis* basis, LayerId layer, HeadId kv_head, std::span<float> keys,
                          std::span<float> values) const {
  if (basis == nullptr) return;
  map_rows(basis->back_to_keys(layer), kv_head, keys);
  map_rows(basis->back_to_values(layer), kv_head, values);
}

bool KvCache::have_basis(std::span<const SequenceId> sequences) const {
  return std::ranges::any_of(sequences, [&](SequenceId s) { return basis_of(s) != nullptr; });
}

void KvCache::change_basis(Change change, LayerId layer, std::span<const SequenceId> sequences,
                           View<float, 3> rows) const {
  const auto num_rows = static_cast<std::int64_t>(sequences.size());
  for (std::int64_t begin = 0, end = 0; begin < num_rows; begin = end) {
    // Sequences that share a basis go together.
    const Basis* basis = basis_of(sequences[static_cast<std::size_t>(begin)]);
    for (end = begin + 1; end < num_rows; ++end) {
      if (basis_of(sequences[static_cast<std::size_t>(end)]) != basis) break;
    }
    const Basis::Map map = basis != nullptr ? (basis->*change)(layer) : Basis::Map{};
    if (map.empty()) continue;
    const View<float, 3> run{rows.row(begin), {end - begin, rows.extent(1), rows.extent(2)}};
    map_heads(device_, map, run, run);
  }
}

/// With keys and values in the bases of their sequences, valid until the next call.
KvCache::Entries KvCache::in_basis(const Entries& entries) {
  if (!have_basis(entries.sequences)) return entries;
  const auto mapped = [&](Change change, View<const float, 3> rows, DeviceBuffer<float>& to) {
    to.resize_discard(static_cast<std::size_t>(rows.size()));
    copy_bytes(device_, to.data(), device_.device(), rows.data, device_.device(),
               to.size() * sizeof(float));
    change_basis(change, entries.layer, entries.sequences, {to.data(), rows.extents});
    return View<const float, 3>{to.data(), rows.extents};
  };
  Entries result = entries;
  result.keys = mapped(&Basis::of_keys, entries.keys, keys_in_basis_);
  result.values = mapped(&Basis::of_values, entries.values, values_in_basis_);
  return result;
}

/// What updates add to rows in the basis, [n, D], or nothing where these are the model's own: with
/// y = (v - mean) in, a value of scale * v + addend has scale * y + (addend + (scale - 1) mean) in.
std::vector<float> KvCache::addends_in_basis(const StreamId& id,
                                             std::span<const ValueUpdate> updates) const {
  const Basis* basis = basis_of(id.sequence);
  if (basis == nullptr || basis->values().empty()) return {};
  Basis::Map map = basis->of_values(id.layer);
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
