// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// New entries: checked, given their slots, and written to pages, at once or in two halves; and the
// work on pages that follows from any change.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

// Such pairs of places go to a GPU together: see Exec::on_device.
constexpr std::size_t kMovesAtOnce = std::size_t{1} << 18;

}  // namespace

// Before anything changes: a refused append leaves the cache as it was. All heads of a shard have
// the same newest position, so one speaks for all.
void KvCache::check_entries(const Entries& entries) const {
  std::unordered_map<const Stream*, Position> newest;
  for (std::size_t i = 0; i < entries.sequences.size(); ++i) {
    const Stream& stream =
        streams_of(entries.sequences[i])[stream_index(entries.layer, entries.shards[i], 0)];
    Position& last = newest.try_emplace(&stream, stream.last_position).first->second;
    require(entries.positions[i] > last, "kv_cache", "position ", entries.positions[i],
            " does not follow position ", last, " of its stream");
    last = entries.positions[i];
  }
}

bool KvCache::make_room_for(const Entries& entries) {
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  // While the pool is far from full nothing is counted: each slot opens a page at most, and seals
  // another one, and one open page more stays free.
  std::size_t largest_sealed = 0;
  for (const PageLayout& layout : sealed_layouts_) {
    largest_sealed = std::max(largest_sealed, layout.page_bytes());
  }
  const std::size_t open_bytes = open_layout_.page_bytes();
  if (pool_.has_plenty(
          entries.sequences.size() * num_heads * (open_bytes + largest_sealed) + open_bytes,
          sealed_layouts_.size() + 1)) {
    return true;
  }
  // How many slots each stream gains, then how many pages that opens and seals.
  struct Gain {
    std::int32_t slots = 0;
    std::uint8_t form = 0;
  };
  std::unordered_map<const Stream*, Gain> gains;
  for (std::size_t i = 0; i < entries.sequences.size(); ++i) {
    const Sequence& sequence = sequence_of(entries.sequences[i]);
    for (std::size_t head = 0; head < num_heads; ++head) {
      Gain& gain = gains[&sequence.streams[stream_index(entries.layer, entries.shards[i], head)]];
      ++gain.slots;
      gain.form = form_of(sequence, entries.layer, head);
    }
  }
  std::size_t opened = 0;
  std::vector<PagePool::Request> requests;
  for (const PageLayout& layout : sealed_layouts_) requests.push_back({layout.page_bytes(), 0});
  for (const auto& [stream, gain] : gains) {
    const auto filled = seals_in_place() ? static_cast<std::int32_t>(stream->holes.size()) : 0;
    const std::int32_t slots = stream->open_slots + std::max(gain.slots - filled, 0);
    if (!seals_in_place()) {
      requests[gain.form].num_pages += static_cast<std::size_t>(slots / config_.page_slots);
    }
    opened += static_cast<std::size_t>((slots + config_.page_slots - 1) / config_.page_slots) -
              (stream->open_page != nullptr ? 1 : 0);
  }
  // Open pages are released only after their content is sealed, so both count. Where the two
  // differ, one open page more stays free, to rewrite a stream when the pool is full.
  if (!seals_in_place()) ++opened;
  requests.push_back({open_layout_.page_bytes(), opened});
  return pool_.reserve(requests);
}

void KvCache::check_shapes(const Entries& entries) const {
  const bool picks = !entries.rows.empty();
  const auto count = static_cast<std::int64_t>(entries.sequences.size());
  const std::int64_t num_rows = picks ? entries.keys.extent(0) : count;
  const std::array shape{num_rows, config_.num_kv_heads, config_.head_dim};
  require(entries.positions.size() == entries.sequences.size() &&
              entries.shards.size() == entries.sequences.size() && entries.keys.extents == shape &&
              entries.values.extents == shape &&
              (!picks || entries.rows.size() == entries.sequences.size()),
          "kv_cache", "sequences, positions, shards, keys and values do not fit together");
  for (const std::int32_t row : entries.rows) {
    require(row >= 0 && row < num_rows, "kv_cache", "row ", row, " of ", num_rows);
  }
  require(!picks || can_prepare(entries.sequences), "kv_cache",
          "rows of sequences with a basis are picked");
}

AppendResult KvCache::append(const Entries& entries) {
  check_shapes(entries);
  check_entries(entries);
  if (!make_room_for(entries)) return AppendResult::kPoolFull;
  take_slots(in_basis(entries), pending_);
  run(pending_);
  return AppendResult::kAppended;
}

AppendResult KvCache::prepare(const Entries& entries) {
  require(can_prepare(entries.sequences), "kv_cache",
          "rows of sequences with a basis are prepared");
  check_shapes(entries);
  check_entries(entries);
  if (!make_room_for(entries)) return AppendResult::kPoolFull;
  PendingWork& work = prepared_.emplace_back();
  take_slots(entries, work);
  if (device_.device() == Device::kCuda) work.writes_on_device = device_.on_device(work.writes);
  return AppendResult::kAppended;
}

void KvCache::write_prepared(const kernels::Rotations* rotations) {
  ensure(!prepared_.empty(), "entries are prepared before they are written");
  run(prepared_.front(), rotations);
  prepared_.pop_front();
}

void KvCache::drop_prepared() {
  for (const PendingWork& work : prepared_) {
    for (std::byte* page : work.full_pages) pool_.release(page, open_layout_.page_bytes());
  }
  prepared_.clear();
}

void KvCache::take_slots(const Entries& entries, PendingWork& work) {
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  for (std::size_t i = 0; i < entries.sequences.size(); ++i) {
    const auto row =
        entries.rows.empty() ? static_cast<std::int64_t>(i) : std::int64_t{entries.rows[i]};
    Sequence& sequence = sequences_.at(entries.sequences[i]);
    for (std::size_t head = 0; head < num_heads; ++head) {
      const std::int64_t offset = static_cast<std::int64_t>(head) * config_.head_dim;
      Stream& stream = sequence.streams[stream_index(entries.layer, entries.shards[i], head)];
      const kernels::SlotRef slot = take_slot(
          stream,
          {entries.sequences[i], sequence.own_basis.get(), entries.layer, id_from<HeadId>(head)},
          form_of(sequence, entries.layer, head), work);
      work.writes.push_back({.key = entries.keys.row(row) + offset,
                             .value = entries.values.row(row) + offset,
                             .page = slot.page,
                             .slot = slot.slot,
                             .position = entries.positions[i]});
      stream.last_position = entries.positions[i];
      if (stream.open_page == nullptr) ++stream.untiered_pages;
    }
  }
}

/// Where the next slot of the stream goes: a hole that can be written to, or the open page. A page
/// that this fills is sealed, in `form`, when the work is done.
kernels::SlotRef KvCache::take_slot(Stream& stream, const PageOwner& owner, std::uint8_t form,
                                    PendingWork& work) {
  if (seals_in_place() && !stream.holes.empty()) {
    const std::int32_t place = stream.holes.back();
    stream.holes.pop_back();
    return slot_at(stream, place);
  }
  if (stream.open_page == nullptr) {
    stream.open_page = new_page(open_layout_);
    work.opened.push_back(stream.open_page);
  }
  const kernels::SlotRef slot{stream.open_page, stream.open_slots};
  if (++stream.open_slots < config_.page_slots) return slot;
  if (seals_in_place()) {
    stream.add_sealed(stream.open_page, form);
  } else {
    work.full_pages.push_back(stream.open_page);
    work.full_owners.push_back(owner);
    work.sealed_pages.push_back(new_page(sealed_layouts_[form]));
    work.sealed_forms.push_back(form);
    stream.add_sealed(work.sealed_pages.back(), form);
  }
  stream.open_page = nullptr;
  stream.open_slots = 0;
  return slot;
}

void KvCache::PendingWork::clear() {
  writes.clear();
  writes_on_device = nullptr;
  moves_from.clear();
  moves_to.clear();
  opened.clear();
  full_pages.clear();
  full_pages_are_of_pool = true;
  full_owners.clear();
  sealed_pages.clear();
  sealed_forms.clear();
}

/// Where the new rows lie, or where all of it is done for what lies in pages already.
void KvCache::run(PendingWork& work, const kernels::Rotations* rotations) {
  kernels::clear_pages(device_, {.layout = open_layout_, .pages = on_device(device_, work.opened)});
  kernels::WriteSlotsArgs writes{.layout = open_layout_,
                                 .writes = view_of<const kernels::KvWrite>(work.writes)};
  if (work.writes_on_device != nullptr) {
    writes.writes.data = work.writes_on_device;
  } else if (std::ssize(work.writes) <= kernels::kMaxWritesOnHost) {
    writes.on_host = true;
  } else {
    writes.writes = on_device(device_, work.writes);
  }
  if (rotations != nullptr) {
    kernels::rotate_and_write(device_, {.rotations = *rotations, .writes = writes});
  } else {
    kernels::write_slots(device_, writes);
  }
  for (std::size_t begin = 0; begin < work.moves_from.size(); begin += kMovesAtOnce) {
    const std::size_t count = std::min(kMovesAtOnce, work.moves_from.size() - begin);
    const auto some = [&](const std::vector<kernels::SlotRef>& slots) {
      return on_device(device_, std::span(slots).subspan(begin, count));
    };
    kernels::move_slots(
        device_,
        {.layout = open_layout_, .from = some(work.moves_from), .to = some(work.moves_to)});
  }
  if (!work.full_pages.empty()) {
    sealer_.seal(work.full_pages, work.full_owners, work.sealed_pages, work.sealed_forms);
  }
  if (open_layout_.key_bounds) summarize_written(work);
  for (std::byte* page : work.full_pages) {
    if (work.full_pages_are_of_pool) pool_.release(page, open_layout_.page_bytes());
  }
  work.clear();
}

/// The bounds of keys follow what was written.
void KvCache::summarize_written(const PendingWork& work) {
  std::vector<PageInBasis> pages;
  for (const kernels::KvWrite& write : work.writes) pages.push_back({write.page, nullptr});
  for (const kernels::SlotRef& slot : work.moves_to) pages.push_back({slot.page, nullptr});
  sealer_.summarize(open_layout_, std::move(pages));
  sealer_.summarize_sealed(work.sealed_pages, work.full_owners, work.sealed_forms);
}

}  // namespace pikv
