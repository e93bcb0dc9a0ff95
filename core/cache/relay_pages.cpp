// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages that are decoded and written once more.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "kernels/common/device_buffer.hpp"

namespace pikv {

/// Writes the pages of a stream anew from a page on: the slots of these places, and no others, in
/// this order. `forms`: of the full pages that they make up, in coordinates `basis`. `change` sees
/// the decoded pages before they are written again.
void KvCache::relay(const StreamId& id, std::size_t first_page,
                    std::span<const std::int32_t> places, std::span<const std::uint8_t> forms,
                    const SequenceBasis* basis, const std::function<void(DecodedPages)>& change) {
  Stream& stream = stream_of(id);
  Stream tail;
  const auto first = static_cast<std::ptrdiff_t>(first_page);
  tail.sealed_pages.assign(stream.sealed_pages.begin() + first, stream.sealed_pages.end());
  tail.sealed_forms.assign(stream.sealed_forms.begin() + first, stream.sealed_forms.end());
  tail.open_page = stream.open_page;

  std::vector<DeviceBuffer<std::byte>> decoded;
  std::vector<std::byte*> targets;
  for (std::size_t i = 0; i < tail.sealed_pages.size() + 1; ++i) {
    targets.push_back(decoded.emplace_back(exec_.device(), open_layout_.page_bytes()).data());
  }
  const std::vector<const std::byte*> sources(tail.sealed_pages.begin(), tail.sealed_pages.end());
  unseal(sources, tail.sealed_forms, owner_of(id), std::span(targets).first(sources.size()));
  if (tail.open_page != nullptr) {
    copy_bytes(exec_, targets.back(), exec_.device(), tail.open_page, exec_.device(),
               open_layout_.page_bytes());
  }
  if (change)
    change(std::span(targets).first(sources.size() + (tail.open_page != nullptr ? 1 : 0)));
  release_pages(tail);
  stream.sealed_pages.resize(first_page);
  stream.sealed_forms.resize(first_page);
  stream.open_page = nullptr;
  stream.open_slots = 0;
  stream.holes.clear();

  const auto first_place = static_cast<std::int32_t>(first_page) * config_.page_slots;
  for (const std::int32_t place : places) {
    const std::int32_t from = place - first_place;
    pending_.moves_from.push_back({targets[page_of(from)], from % config_.page_slots});
    const std::size_t page = stream.sealed_pages.size() - first_page;
    pending_.moves_to.push_back(take_slot(stream, {basis, id.layer, id.kv_head},
                                          page < forms.size() ? forms[page] : 0, pending_));
    // A page at a time, so that one open page is enough.
    if (!pending_.full_pages.empty()) run(exec_, pending_);
  }
  run(exec_, pending_);
}

}  // namespace pikv
