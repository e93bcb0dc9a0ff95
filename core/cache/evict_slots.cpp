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
    hide(stream, places);
  } else if (seals_in_place()) {
    move_together(stream);
  } else {
    rewrite(stream);
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
  const auto page = static_cast<std::size_t>(place / config_.page_slots);
  return {page < stream.sealed_pages.size() ? stream.sealed_pages[page] : stream.open_page,
          place % config_.page_slots};
}

void KvCache::hide(const Stream& stream, std::span<const std::int32_t> places) {
  // Open pages may be laid out otherwise than sealed ones.
  const auto end_of_sealed =
      static_cast<std::int32_t>(stream.sealed_pages.size()) * config_.page_slots;
  std::vector<kernels::SlotRef> sealed, open;
  for (const std::int32_t place : places) {
    (place < end_of_sealed ? sealed : open).push_back(slot_at(stream, place));
  }
  kernels::hide_slots(exec_,
                      {.layout = sealed_layout_, .slots = view_of<const kernels::SlotRef>(sealed)});
  kernels::hide_slots(exec_,
                      {.layout = open_layout_, .slots = view_of<const kernels::SlotRef>(open)});
  if (!open_layout_.key_bounds) return;
  const auto pages_of = [](const std::vector<kernels::SlotRef>& slots) {
    std::vector<std::byte*> pages;
    for (const kernels::SlotRef& slot : slots) pages.push_back(slot.page);
    return pages;
  };
  summarize(sealed_layout_, pages_of(sealed));
  summarize(open_layout_, pages_of(open));
}

/// What the slots kept account of stays known of the stream.
void KvCache::add_evicted_columns(Stream& stream, std::span<const std::int32_t> places) const {
  const std::int32_t num_columns = open_layout_.columns.count();
  if (num_columns == 0) return;
  stream.evicted_columns.resize(static_cast<std::size_t>(num_columns));
  const auto num_sealed = static_cast<std::int32_t>(stream.sealed_pages.size());
  for (const std::int32_t place : places) {
    const kernels::SlotRef slot = slot_at(stream, place);
    const PageLayout& layout =
        place < num_sealed * config_.page_slots ? sealed_layout_ : open_layout_;
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
    moves_from_.push_back(slot_at(stream, place));
    moves_to_.push_back(slot_at(stream, *hole++));
  }
  run_pending();

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
  if (stream.open_page == nullptr) return;
  std::vector<std::int32_t> unused(static_cast<std::size_t>(page_slots - stream.open_slots));
  std::iota(unused.begin(), unused.end(), num_kept);
  hide(stream, unused);
}

/// Pages from the first hole on are decoded beside the pool and their slots appended again.
void KvCache::rewrite(Stream& stream) {
  const std::int32_t page_slots = config_.page_slots;
  const std::vector<std::int32_t> holes = std::move(stream.holes);
  const std::size_t first_page =
      std::min(static_cast<std::size_t>(holes.front() / page_slots), stream.sealed_pages.size());
  const auto first_place = static_cast<std::int32_t>(first_page) * page_slots;
  const std::int32_t end_place =
      static_cast<std::int32_t>(stream.sealed_pages.size()) * page_slots + stream.open_slots;

  std::vector<const std::byte*> sources(
      stream.sealed_pages.begin() + static_cast<std::ptrdiff_t>(first_page),
      stream.sealed_pages.end());
  std::vector<DeviceBuffer<std::byte>> decoded;
  std::vector<std::byte*> targets;
  const auto add_target = [&] {
    targets.push_back(decoded.emplace_back(exec_.device(), open_layout_.page_bytes()).data());
  };
  for (std::size_t i = 0; i < sources.size(); ++i) add_target();
  if (!sources.empty()) {
    unseal(view_of<const std::byte* const>(sources), view_of<std::byte* const>(targets));
  }
  if (stream.open_page != nullptr) {
    add_target();
    copy_bytes(exec_, targets.back(), exec_.device(), stream.open_page, exec_.device(),
               open_layout_.page_bytes());
  }

  Stream tail;
  tail.sealed_pages.assign(stream.sealed_pages.begin() + static_cast<std::ptrdiff_t>(first_page),
                           stream.sealed_pages.end());
  tail.open_page = stream.open_page;
  release_pages(tail);
  stream.sealed_pages.resize(first_page);
  stream.open_page = nullptr;
  stream.open_slots = 0;
  stream.holes.clear();

  auto hole = holes.begin();
  for (std::int32_t place = first_place; place < end_place; ++place) {
    if (hole != holes.end() && *hole == place) {
      ++hole;
      continue;
    }
    const std::int32_t from = place - first_place;
    moves_from_.push_back(
        {targets[static_cast<std::size_t>(from / page_slots)], from % page_slots});
    moves_to_.push_back(take_slot(stream));
    // A page at a time, so that one open page is enough.
    if (!full_pages_.empty()) run_pending();
  }
  run_pending();
}

}  // namespace pikv
