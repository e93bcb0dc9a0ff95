// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/slot_order.hpp"

#include <algorithm>
#include <numeric>

namespace pikv {
namespace {

template <class T>
void reorder(std::vector<T>& items, const std::vector<std::size_t>& order) {
  if (order.empty()) return;
  const std::size_t row_size = items.size() / order.size();
  std::vector<T> result(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(items.begin() + static_cast<std::ptrdiff_t>(order[i] * row_size), row_size,
                result.begin() + static_cast<std::ptrdiff_t>(i * row_size));
  }
  items = std::move(result);
}

}  // namespace

std::vector<std::size_t> sorted_order(const std::vector<Position>& positions) {
  std::vector<std::size_t> order(positions.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (!std::ranges::is_sorted(positions)) {
    std::ranges::sort(order, {}, [&](std::size_t i) { return positions[i]; });
  }
  return order;
}

void reorder(KvCache::HeadContents& slots, const std::vector<std::size_t>& order) {
  reorder(slots.positions, order);
  reorder(slots.keys, order);
  reorder(slots.values, order);
  reorder(slots.columns, order);
}

}  // namespace pikv
