// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Values of named slots: reading them, and changing them where they lie.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void KvCache::read_values(const StreamId& id, std::span<const std::int32_t> subscripts,
                          std::vector<float>& values) const {
  const Stream& stream = stream_of(id);
  check_subscripts(subscripts, stream.num_slots(config_.page_slots));
  device_.synchronize();
  const std::size_t num_before = values.size();
  DeviceBuffer<std::byte> decoded(exec_.device());
  const std::byte* in_buffer = nullptr;  // the page that was decoded last
  const PageOwner owner = owner_of(id);
  for (const std::int32_t place : places_of(stream, subscripts)) {
    const kernels::SlotRef ref = slot_at(stream, place);
    const std::byte* page = ref.page;
    if (page != stream.open_page && !seals_in_place()) {
      decoded.resize_discard(open_layout_.page_bytes());
      if (in_buffer != page) unseal(stream, page_of(place), owner, decoded.data());
      in_buffer = page;
      page = decoded.data();
    }
    const float* row = reinterpret_cast<const float*>(page + open_layout_.key_bytes()) +
                       static_cast<std::ptrdiff_t>(ref.slot) * open_layout_.value_stride();
    values.insert(values.end(), row, row + open_layout_.head_dim);
  }
  leave_basis(basis_of(id.sequence), id.layer, id.kv_head, {},
              std::span(values).subspan(num_before));
}

void KvCache::update_values(const StreamId& id, std::span<const ValueUpdate> updates) {
  Stream& stream = stream_of(id);
  std::vector<std::int32_t> subscripts;
  for (const ValueUpdate& update : updates) subscripts.push_back(update.slot);
  check_subscripts(subscripts, stream.num_slots(config_.page_slots));
  device_.synchronize();
  const std::vector<std::int32_t> places = places_of(stream, subscripts);
  const std::vector<float> addends = addends_in_basis(id, updates);
  std::vector<kernels::ValueUpdate> named;
  for (std::size_t i = 0; i < updates.size(); ++i) {
    const kernels::SlotRef ref = slot_at(stream, places[i]);
    const auto row = i * static_cast<std::size_t>(config_.head_dim);
    named.push_back({.addend = addends.empty() ? updates[i].addend : addends.data() + row,
                     .page = ref.page,
                     .slot = ref.slot,
                     .scale = updates[i].scale});
  }
  // Pages of the codec's own form one by one: they come first, for places ascend.
  auto begin = named.begin();
  while (!seals_in_place() && begin != named.end() && begin->page != stream.open_page) {
    const auto end = std::find_if(
        begin, named.end(), [&](const kernels::ValueUpdate& u) { return u.page != begin->page; });
    const std::int32_t place = places[static_cast<std::size_t>(begin - named.begin())];
    edit_sealed(id, page_of(place), [&](std::byte* open_page) {
      for (auto update = begin; update != end; ++update) update->page = open_page;
      kernels::update_values(
          exec_, {.layout = open_layout_, .updates = {std::to_address(begin), {end - begin}}});
    });
    begin = end;
  }
  const std::span<const kernels::ValueUpdate> open(begin, named.end());
  kernels::update_values(
      exec_,
      {.layout = open_layout_, .updates = {open.data(), {static_cast<std::int64_t>(open.size())}}});
}

/// By way of an open page, so that any codec will do. What is not edited stays as it is, unless its
/// group needs another scale.
void KvCache::edit_sealed(const StreamId& id, std::size_t page,
                          const std::function<void(std::byte* open)>& edit) {
  const Stream& stream = stream_of(id);
  const PageOwner owner = owner_of(id);
  DeviceBuffer<std::byte> decoded(exec_.device(), open_layout_.page_bytes());
  unseal(stream, page, owner, decoded.data());
  edit(decoded.data());
  std::byte* full = decoded.data();
  std::byte* sealed = stream.sealed_pages[page];
  seal(exec_, {&full, 1}, {&owner, 1}, {&sealed, 1}, {&stream.sealed_forms[page], 1},
       /*repack=*/true);
  if (open_layout_.key_bounds) {
    summarize(exec_, layout_of(stream, page), {{sealed, key_basis_of(owner)}});
  }
}

}  // namespace pikv
