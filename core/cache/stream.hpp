// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A stream: the slots of one (sequence, layer, KV head, shard). The unit of storage, of eviction
// and of length.
//
// Invariants: no two slots have the same position; the open page exists iff a slot was written to
// it; places below num_places() are slots or holes, and there are fewer holes than a page has
// places; every turned slot is a slot; every sealed page has a form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/ids.hpp"
#include "kernels/attention.hpp"

namespace pikv {

/// What a slot's key was when it was appended, if it was turned since.
struct TurnedSlot {
  Position position;  // now
  Position appended_at;
  std::vector<float> key;  // [D], after RoPE at appended_at
};

struct Stream {
  std::vector<std::byte*> sealed_pages;
  std::vector<std::uint8_t> sealed_forms;  // of each, which of the codec's
  std::byte* open_page = nullptr;
  std::int32_t untiered_pages = 0;  // sealed since slots were last put into tiers
  std::int32_t open_slots = 0;      // written places of the open page, holes included
  std::vector<std::int32_t> holes;  // places of evicted slots, counted over all pages, ascending
  Position last_position = -1;      // the newest that a slot ever had
  std::vector<double> evicted_columns;  // [C], sums over the slots that were evicted; or empty
  std::vector<TurnedSlot> turned;       // in any order

  [[nodiscard]] std::int64_t num_places(std::int32_t page_slots) const {
    return static_cast<std::int64_t>(sealed_pages.size()) * page_slots + open_slots;
  }
  [[nodiscard]] std::int64_t num_slots(std::int32_t page_slots) const {
    return num_places(page_slots) - static_cast<std::int64_t>(holes.size());
  }
  void add_sealed(std::byte* page, std::uint8_t form) {
    sealed_pages.push_back(page);
    sealed_forms.push_back(form);
  }
  [[nodiscard]] bool empty() const { return sealed_pages.empty() && open_page == nullptr; }
  [[nodiscard]] kernels::StreamView view(std::int32_t page_slots) const {
    const auto num_sealed = static_cast<std::int32_t>(sealed_pages.size());
    const bool are_full = holes.empty() || holes.front() >= num_sealed * page_slots;
    return {.sealed_pages = sealed_pages.data(),
            .sealed_forms = sealed_forms.data(),
            .num_sealed_pages = num_sealed,
            .last_sealed = are_full ? last_position : kNoPosition,
            .open_page = open_page};
  }
};

}  // namespace pikv
