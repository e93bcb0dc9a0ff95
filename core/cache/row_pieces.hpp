// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Items that name a row of the host each, for operations that may run on a GPU.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/device_view.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// Calls f(View<const Item, 1>) with all items, on a GPU piece by piece, as Exec::on_device asks
/// for. `row`: the member that names `width` numbers.
template <class Item, class F>
void for_pieces_with_rows(Exec& exec, std::int64_t width, std::span<const Item> items,
                          const float* Item::*row, const F& f) {
  constexpr std::size_t kPieceBytes = std::size_t{4} << 20;
  if (items.empty()) return;
  if (exec.device() == Device::kCpu) {
    f(View<const Item, 1>{items.data(), {static_cast<std::int64_t>(items.size())}});
    return;
  }
  const std::size_t item_bytes = static_cast<std::size_t>(width) * sizeof(float) + sizeof(Item);
  const std::size_t at_once = std::max<std::size_t>(kPieceBytes / item_bytes, 1);
  std::vector<float> rows;
  for (std::size_t begin = 0; begin < items.size(); begin += at_once) {
    const auto some = items.subspan(begin, std::min(at_once, items.size() - begin));
    std::vector<Item> piece(some.begin(), some.end());
    rows.clear();
    for (const Item& item : piece) rows.insert(rows.end(), item.*row, item.*row + width);
    const float* next = exec.on_device(rows);
    for (Item& item : piece) {
      item.*row = next;
      next += width;
    }
    f(on_device(exec, piece));
  }
}

}  // namespace pikv
