// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A stream: the ordered slots of one (sequence, layer, KV head, shard). The unit of storage, of
// eviction and of length.
//
// Invariants: positions ascend strictly from slot to slot; every sealed page is full; the open page
// exists iff it holds at least one slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/ids.hpp"
#include "kernels/attention.hpp"

namespace pikv {

struct Stream {
  std::vector<std::byte*> sealed_pages;
  std::byte* open_page = nullptr;
  std::int32_t open_slots = 0;
  Position last_position = -1;  // of the newest slot ever appended

  [[nodiscard]] std::int64_t num_slots(std::int32_t page_slots) const {
    return static_cast<std::int64_t>(sealed_pages.size()) * page_slots + open_slots;
  }
  [[nodiscard]] bool empty() const { return sealed_pages.empty() && open_page == nullptr; }
  [[nodiscard]] kernels::StreamView view() const {
    return {.sealed_pages = sealed_pages.data(),
            .num_sealed_pages = static_cast<std::int32_t>(sealed_pages.size()),
            .open_page = open_page};
  }
};

}  // namespace pikv
