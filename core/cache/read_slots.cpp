// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reading slots out of pages, for scoring.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv {

/// All slots, in the order in which they lie.
void KvCache::add_slots(const Stream& stream, SlotReader::Read& read) const {
  auto hole = stream.holes.begin();
  std::int32_t first_place = 0;
  const auto add_page = [&](const std::byte* page, std::uint16_t form, std::int32_t num_places) {
    std::int32_t begin = 0;
    for (; hole != stream.holes.end() && *hole < first_place + num_places; ++hole) {
      const std::int32_t end = *hole - first_place;
      if (begin < end) read.add(page, form, begin, end - begin);
      begin = end + 1;
    }
    if (begin < num_places) read.add(page, form, begin, num_places - begin);
    first_place += num_places;
  };
  read.runs.reserve(read.runs.size() + stream.sealed_pages.size() + 1 + stream.holes.size());
  for (std::size_t i = 0; i < stream.sealed_pages.size(); ++i) {
    add_page(stream.sealed_pages[i], stream.sealed_forms[i], config_.page_slots);
  }
  if (stream.open_page != nullptr) {
    add_page(stream.open_page, reader_.open_form(), stream.open_slots);
  }
}

/// Places in any order; those that follow each other in a page go together.
void KvCache::add_places(const Stream& stream, std::span<const std::int32_t> places,
                         SlotReader::Read& read) const {
  for (std::size_t begin = 0, end = 0; begin < places.size(); begin = end) {
    const std::size_t page = page_of(places[begin]);
    for (end = begin + 1; end < places.size() && places[end] == places[end - 1] + 1; ++end) {
      if (page_of(places[end]) != page) break;
    }
    const kernels::SlotRef first = slot_at(stream, places[begin]);
    const bool sealed = page < stream.sealed_pages.size();
    read.add(first.page, sealed ? stream.sealed_forms[page] : reader_.open_form(), first.slot,
             static_cast<std::int32_t>(end - begin));
  }
}

/// All slots of a head, for `contents`, which get their size.
SlotReader::Read KvCache::read_of(SequenceId sequence, LayerId layer, HeadId kv_head,
                                  bool with_keys, bool with_values, HeadContents& contents) const {
  const auto& [streams, own_basis] = sequence_of(sequence);
  SlotReader::Read read;
  read.key_basis = sealer_.key_basis_of(own_basis.get(), layer, kv_head);
  contents.parts.clear();
  contents.evicted_columns.assign(static_cast<std::size_t>(open_layout_.columns.count()), 0.0);
  for (const ShardId shard : local_shards_.at(index(layer))) {
    const Stream& stream = streams[stream_index(layer, shard, index(kv_head))];
    for (std::size_t c = 0; c < stream.evicted_columns.size(); ++c) {
      contents.evicted_columns[c] += stream.evicted_columns[c];
    }
    if (stream.empty()) continue;
    const std::int32_t num_before = read.num_rows;
    add_slots(stream, read);
    contents.parts.push_back({shard, read.num_rows - num_before});
  }
  const auto num_slots = static_cast<std::size_t>(read.num_rows);
  const auto head_dim = static_cast<std::size_t>(config_.head_dim);
  contents.positions.resize(num_slots);
  contents.keys.resize(with_keys ? num_slots * head_dim : 0);
  contents.values.resize(with_values ? num_slots * head_dim : 0);
  contents.columns.resize(num_slots * contents.evicted_columns.size());
  read.to = {.positions = contents.positions.data(),
             .keys = with_keys ? contents.keys.data() : nullptr,
             .values = with_values ? contents.values.data() : nullptr,
             .columns = contents.evicted_columns.empty() ? nullptr : contents.columns.data()};
  return read;
}

void KvCache::read_slots(SequenceId sequence, LayerId layer, HeadId kv_head, bool with_keys,
                         bool with_values, HeadContents& contents) const {
  reader_.read(read_of(sequence, layer, kv_head, with_keys, with_values, contents));
  leave_basis(basis_of(sequence), layer, kv_head, contents.keys, contents.values);
}

void KvCache::read_slots(SequenceId sequence, std::int64_t first, std::int64_t last, bool with_keys,
                         bool with_values, std::span<HeadContents* const> contents) const {
  // Head after head, as attention goes: what a thread wrote to the account it reads again.
  const std::int64_t num_heads = config_.num_kv_heads;
  const std::int64_t num_layers = last - first;
  const std::int64_t count = num_layers * num_heads;
  const auto for_head = [&](std::int64_t i, const auto& f) {
    const std::int64_t head = i / num_layers;
    const std::int64_t layer = i % num_layers;
    f(id_from<LayerId>(first + layer), id_from<HeadId>(head),
      *contents[static_cast<std::size_t>(layer * num_heads + head)]);
  };
  if (device_.device() == Device::kCuda) {  // all heads at once
    std::vector<SlotReader::Read> reads(static_cast<std::size_t>(count));
    kernels::cpu::parallel_for(exec_, count, [&](std::int64_t i, int) {
      for_head(i, [&](LayerId layer, HeadId head, HeadContents& to) {
        reads[static_cast<std::size_t>(i)] =
            read_of(sequence, layer, head, with_keys, with_values, to);
      });
    });
    reader_.read(reads);
    for (std::int64_t i = 0; i < count; ++i) {
      for_head(i, [&](LayerId layer, HeadId head, HeadContents& to) {
        leave_basis(basis_of(sequence), layer, head, to.keys, to.values);
      });
    }
    return;
  }
  const auto read = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      for_head(i, [&](LayerId layer, HeadId head, HeadContents& to) {
        read_slots(sequence, layer, head, with_keys, with_values, to);
      });
    }
  };
  const bool uses_threads = reader_.decodes() || basis_of(sequence) != nullptr;
  if ((with_keys || with_values) && uses_threads) {
    read(0, count, 0);
  } else {
    kernels::cpu::parallel_ranges(exec_, count, 1, read);
  }
}

std::vector<Position> KvCache::positions(const StreamId& id) const {
  return positions_of(stream_of(id));
}

std::vector<Position> KvCache::positions_of(const Stream& stream) const {
  SlotReader::Read read;
  add_slots(stream, read);
  std::vector<Position> positions(static_cast<std::size_t>(read.num_rows));
  read.to.positions = positions.data();
  reader_.read(read);
  return positions;
}

std::vector<std::vector<Position>> KvCache::positions_of_places(
    std::span<const StreamPlaces> places) const {
  std::vector<SlotReader::Read> reads(places.size());
  std::vector<std::vector<Position>> positions;
  for (std::size_t i = 0; i < places.size(); ++i) {
    add_places(*places[i].stream, places[i].places, reads[i]);
    reads[i].to.positions = positions.emplace_back(places[i].places.size()).data();
  }
  reader_.read(reads);
  return positions;
}

}  // namespace pikv
