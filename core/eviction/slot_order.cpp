// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/slot_order.hpp"

#include <algorithm>
#include <limits>
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
  // Up to so many positions a slot, laying slots out by position is faster than comparing them.
  constexpr std::size_t kSparse = 8;
  std::vector<std::size_t> order(positions.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (std::ranges::is_sorted(positions)) return order;
  const auto [first, last] = std::ranges::minmax(positions);
  const auto range = static_cast<std::size_t>(last - first) + 1;
  if (range > kSparse * positions.size()) {
    std::ranges::sort(order, {}, [&](std::size_t i) { return positions[i]; });
    return order;
  }
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> slot_at(range, kNone);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    slot_at[static_cast<std::size_t>(positions[i] - first)] = i;
  }
  std::ranges::copy_if(slot_at, order.begin(), [](std::size_t i) { return i != kNone; });
  return order;
}

void reorder(KvCache::HeadContents& slots, const std::vector<std::size_t>& order) {
  if (std::ranges::is_sorted(order)) return;
  reorder(slots.positions, order);
  reorder(slots.keys, order);
  reorder(slots.values, order);
  reorder(slots.columns, order);
}

}  // namespace pikv
