// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Eviction. A few slots leave holes, which the next entries fill; as soon as the holes of a stream
// make up a page, the slots that stay move together and pages go back to the pool. So a stream
// never takes a page more than its slots need, and evicting one slot a step costs next to nothing.
#include <algorithm>
#include <numeric>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void KvCache::keep_slots(const StreamId& id, std::span<const std::int32_t> keep) {
  const Stream& stream = stream_of(id);
  const auto num_slots = static_cast<std::int32_t>(stream.num_slots(config_.page_slots));
  check_subscripts(keep, num_slots);
  std::vector<std::int32_t> all(static_cast<std::size_t>(num_slots));
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::int32_t> evict;
  std::ranges::set_difference(all, keep, std::back_inserter(evict));
  evict_slots(id, evict);
}

void KvCache::evict_slots(const StreamId& id, std::span<const std::int32_t> evict) {
  Stream& stream = stream_of(id);
  const std::int64_t num_slots = stream.num_slots(config_.page_slots);
  check_subscripts(evict, num_slots);
  if (evict.empty()) return;
  device_.synchronize();
  num_evicted_slots_ += static_cast<std::int64_t>(evict.size());
  const std::vector<std::int32_t> places = places_of(stream, evict);
  add_evicted_columns(stream, places);
  forget_turned(stream, places);
  if (static_cast<std::int64_t>(evict.size()) == num_slots) {
    release_pages(stream);
    return;
  }
  const auto num_old = static_cast<std::ptrdiff_t>(stream.holes.size());
  stream.holes.insert(stream.holes.end(), places.begin(), places.end());
  std::inplace_merge(stream.holes.begin(), stream.holes.begin() + num_old, stream.holes.end());
  if (static_cast<std::int32_t>(stream.holes.size()) < config_.page_slots) {
    hide(stream, key_basis_of(owner_of(id)), places);
  } else if (seals_in_place()) {
    move_together(stream);
  } else {
    rewrite(id);
  }
}

void KvCache::check_subscripts(std::span<const std::int32_t> subscripts, std::int64_t num_slots) {
  for (std::size_t i = 0; i < subscripts.size(); ++i) {
    require(subscripts[i] >= 0 && subscripts[i] < num_slots &&
                (i == 0 || subscripts[i] > subscripts[i - 1]),
            "kv_cache", "subscripts of slots must ascend below ", num_slots);
  }
}

/// Where the slots lie, counted over all pages of the stream, holes included.
std::vector<std::int32_t> KvCache::places_of(const Stream& stream,
                                             std::span<const std::int32_t> subscripts) const {
  std::vector<std::int32_t> places;
  places.reserve(subscripts.size());
  std::int32_t skipped = 0;
  for (const std::int32_t i : subscripts) {
    while (static_cast<std::size_t>(skipped) < stream.holes.size() &&
           stream.holes[static_cast<std::size_t>(skipped)] <= i + skipped) {
      ++skipped;
    }
    places.push_back(i + skipped);
  }
  return places;
}

kernels::SlotRef KvCache::slot_at(const Stream& stream, std::int32_t place) const {
  const std::size_t page = page_of(place);
  return {page < stream.sealed_pages.size() ? stream.sealed_pages[page] : stream.open_page,
          place % config_.page_slots};
}

void KvCache::hide(const Stream& stream, const float* key_basis,
                   std::span<const std::int32_t> places) {
  // Pages of a stream may be laid out in several ways: runs of places of one layout at a time.
  for (auto begin = places.begin(); begin != places.end();) {
    const PageLayout& layout = layout_at(stream, *begin);
    std::vector<kernels::SlotRef> slots;
    for (; begin != places.end() && &layout_at(stream, *begin) == &layout; ++begin) {
      slots.push_back(slot_at(stream, *begin));
    }
    kernels::hide_slots(exec_, {.layout = layout, .slots = view_of<const kernels::SlotRef>(slots)});
    if (!layout.key_bounds) continue;
    std::vector<std::byte*> pages;
    for (const kernels::SlotRef& slot : slots) pages.push_back(slot.page);
    summarize(exec_, layout, key_basis, std::move(pages));
  }
}

/// What the slots kept account of stays known of the stream.
void KvCache::add_evicted_columns(Stream& stream, std::span<const std::int32_t> places) const {
  const std::int32_t num_columns = open_layout_.columns.count();
  if (num_columns == 0) return;
  stream.evicted_columns.resize(static_cast<std::size_t>(num_columns));
  for (const std::int32_t place : places) {
    const kernels::SlotRef slot = slot_at(stream, place);
    const PageLayout& layout = layout_at(stream, place);
    const auto* columns = reinterpret_cast<const float*>(slot.page + layout.columns_offset());
    for (std::int32_t c = 0; c < num_columns; ++c) {
      stream.evicted_columns[static_cast<std::size_t>(c)] +=
          static_cast<double>(columns[c * layout.num_slots + slot.slot]);
    }
  }
}

/// The last slots fill the holes before them. For pages that are sealed as they are.
void KvCache::move_together(Stream& stream) {
  const std::int32_t page_slots = config_.page_slots;
  std::vector<std::byte*> pages = stream.sealed_pages;
  if (stream.open_page != nullptr) pages.push_back(stream.open_page);
  const std::int32_t num_kept = static_cast<std::int32_t>(stream.num_slots(page_slots));
  const std::int32_t num_places = num_kept + static_cast<std::int32_t>(stream.holes.size());

  auto hole = stream.holes.begin();
  auto behind = std::ranges::lower_bound(stream.holes, num_kept);
  for (std::int32_t place = num_kept; place < num_places; ++place) {
    if (behind != stream.holes.end() && *behind == place) {
      ++behind;
      continue;
    }
    pending_.moves_from.push_back(slot_at(stream, place));
    pending_.moves_to.push_back(slot_at(stream, *hole++));
  }
  run(exec_, pending_);

  const auto num_pages = static_cast<std::size_t>((num_kept + page_slots - 1) / page_slots);
  for (std::size_t i = num_pages; i < pages.size(); ++i) {
    pool_.release(pages[i], open_layout_.page_bytes());
  }
  pages.resize(num_pages);
  stream.holes.clear();
  stream.open_slots = num_kept % page_slots;
  stream.open_page = stream.open_slots > 0 ? pages.back() : nullptr;
  if (stream.open_page != nullptr) pages.pop_back();
  stream.sealed_pages = std::move(pages);
  stream.sealed_forms.resize(stream.sealed_pages.size());
  if (stream.open_page == nullptr) return;
  std::vector<std::int32_t> unused(static_cast<std::size_t>(page_slots - stream.open_slots));
  std::iota(unused.begin(), unused.end(), num_kept);
  hide(stream, nullptr, unused);
}

/// Pages from the first hole on are decoded beside the pool and their slots appended again.
void KvCache::rewrite(const StreamId& id) {
  Stream& stream = stream_of(id);
  const std::vector<std::int32_t> holes = std::move(stream.holes);
  const std::size_t first_page = std::min(page_of(holes.front()), stream.sealed_pages.size());
  const auto end_place = static_cast<std::int32_t>(stream.num_places(config_.page_slots));
  std::vector<std::int32_t> places;
  auto hole = holes.begin();
  for (auto place = static_cast<std::int32_t>(first_page) * config_.page_slots; place < end_place;
       ++place) {
    if (hole != holes.end() && *hole == place) {
      ++hole;
    } else {
      places.push_back(place);
    }
  }
  // A page gets the form of the one that its last slot comes from, so that the newest slots, which
  // come last, stay in theirs; those of the open page have none yet and take that of a page before.
  const std::vector<std::uint8_t>& old = stream.sealed_forms;
  std::vector<std::uint8_t> forms(old.begin(),
                                  old.begin() + static_cast<std::ptrdiff_t>(first_page));
  const auto page_slots = static_cast<std::size_t>(config_.page_slots);
  for (std::size_t i = page_slots; i <= places.size(); i += page_slots) {
    forms.push_back(old[std::min(page_of(places[i - 1]), old.size() - 1)]);
  }
  // When the pool is full, forms that were there fit.
  if (!make_room_for_forms(stream, forms)) {
    forms.resize(std::min(forms.size(), old.size()));
    std::copy(old.end() - std::ssize(forms), old.end(), forms.begin());
  }
  relay(id, first_page, places, std::span(forms).subspan(first_page), owner_of(id).basis);
}

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
