// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Eviction. A few slots leave holes, which the next entries fill; as soon as the holes of a stream
// make up a page, the slots that stay move together and pages go back to the pool. So a stream
// never takes a page more than its slots need, and evicting one slot a step costs next to nothing.
#include <algorithm>
#include <numeric>

#include "core/cache/kv_cache.hpp"
#include "kernels/common/device_view.hpp"
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
  const Slots slots{id, evict};
  evict_slots(std::span(&slots, 1));
}

void KvCache::evict_slots(std::span<const Slots> evict) {
  std::vector<StreamPlaces> gone;
  for (const auto& [id, subscripts] : evict) {
    Stream& stream = stream_of(id);
    check_subscripts(subscripts, stream.num_slots(config_.page_slots));
    if (!subscripts.empty()) gone.push_back({id, &stream, places_of(stream, subscripts)});
  }
  add_evicted_columns(gone);
  forget_turned(gone);
  std::vector<Hidden> hidden(sealed_layouts_.size() + 1);
  std::vector<const StreamPlaces*> crowded;  // with a page of holes
  for (const StreamPlaces& of_stream : gone) {
    const auto& [id, stream, places] = of_stream;
    num_evicted_slots_ += std::ssize(places);
    if (std::ssize(places) == stream->num_slots(config_.page_slots)) {
      release_pages(*stream);
      continue;
    }
    std::vector<std::int32_t>& holes = stream->holes;
    const std::ptrdiff_t num_old = std::ssize(holes);
    holes.insert(holes.end(), places.begin(), places.end());
    std::inplace_merge(holes.begin(), holes.begin() + num_old, holes.end());
    if (static_cast<std::int32_t>(holes.size()) < config_.page_slots) {
      add_hidden(*stream, sealer_.key_basis_of(owner_of(id)), places, hidden);
    } else {
      crowded.push_back(&of_stream);
    }
  }
  if (seals_in_place() && !crowded.empty()) {
    for (const StreamPlaces* of_stream : crowded) plan_moves(*of_stream->stream);
    run(pending_);
    for (const StreamPlaces* of_stream : crowded) cut_off(*of_stream->stream, hidden);
    crowded.clear();
  }
  hide(std::move(hidden));
  rewrite(crowded);
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

/// The page is named once for every run of places.
void KvCache::add_hidden(const Stream& stream, const float* key_basis,
                         std::span<const std::int32_t> places, std::vector<Hidden>& hidden) const {
  for (const std::int32_t place : places) {
    const std::size_t page = page_of(place);
    const bool open = page >= stream.sealed_pages.size() && !seals_in_place();
    Hidden& of_form = open                                ? hidden.back()
                      : page < stream.sealed_pages.size() ? hidden[stream.sealed_forms[page]]
                                                          : hidden.front();
    const kernels::SlotRef slot = slot_at(stream, place);
    if (of_form.pages.empty() || of_form.pages.back().page != slot.page) {
      of_form.pages.push_back({slot.page, key_basis});
    }
    of_form.slots.push_back(slot);
  }
}

void KvCache::hide(std::vector<Hidden> hidden) {
  for (std::size_t form = 0; form < hidden.size(); ++form) {
    auto& [slots, pages] = hidden[form];
    if (slots.empty()) continue;
    const PageLayout& layout = form < sealed_layouts_.size() ? sealed_layouts_[form] : open_layout_;
    kernels::hide_slots(device_, {.layout = layout, .slots = on_device(device_, slots)});
    if (layout.key_bounds) sealer_.summarize(layout, std::move(pages));
  }
}

/// What the slots kept account of stays known of their streams.
void KvCache::add_evicted_columns(std::span<const StreamPlaces> gone) const {
  const auto num_columns = static_cast<std::size_t>(open_layout_.columns.count());
  if (num_columns == 0) return;
  std::size_t num_slots = 0;
  for (const StreamPlaces& of_stream : gone) num_slots += of_stream.places.size();
  std::vector<float> columns(num_slots * num_columns);
  std::vector<SlotReader::Read> reads(gone.size());
  float* next = columns.data();
  for (std::size_t i = 0; i < gone.size(); ++i) {
    add_places(*gone[i].stream, gone[i].places, reads[i]);
    reads[i].to.columns = next;
    next += gone[i].places.size() * num_columns;
  }
  reader_.read(reads);
  const float* column = columns.data();
  for (const StreamPlaces& of_stream : gone) {
    std::vector<double>& sums = of_stream.stream->evicted_columns;
    sums.resize(num_columns);
    for (std::size_t i = 0; i < of_stream.places.size(); ++i) {
      for (double& sum : sums) sum += static_cast<double>(*column++);
    }
  }
}

/// The last slots are to fill the holes before them. For pages that are sealed as they are.
void KvCache::plan_moves(const Stream& stream) {
  const auto num_kept = static_cast<std::int32_t>(stream.num_slots(config_.page_slots));
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
}

/// When that is done: pages go, and places of the last one that nobody has are to be hidden.
void KvCache::cut_off(Stream& stream, std::vector<Hidden>& hidden) {
  const std::int32_t page_slots = config_.page_slots;
  const auto num_kept = static_cast<std::int32_t>(stream.num_slots(page_slots));
  std::vector<std::byte*> pages = std::move(stream.sealed_pages);
  if (stream.open_page != nullptr) pages.push_back(stream.open_page);
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
  add_hidden(stream, nullptr, unused, hidden);
}

}  // namespace pikv
