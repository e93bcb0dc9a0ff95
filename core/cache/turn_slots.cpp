// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Slots that get other positions.
#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "core/cache/page_rows.hpp"
#include "core/cache/row_pieces.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void KvCache::turn_slots(const StreamId& id, std::span<const Turn> turns,
                         std::span<const float> inverse_frequencies) {
  const Turns of_stream{id, turns};
  turn_slots(std::span(&of_stream, 1), inverse_frequencies);
}

void KvCache::turn_slots(std::span<const Turns> turns, std::span<const float> inverse_frequencies) {
  std::vector<Turning> streams;
  for (const auto& [id, of_stream] : turns) {
    streams.push_back({.id = id, .stream = &stream_of(id), .turns = of_stream});
  }
  find_places(streams);
  keep_copies(streams);
  for (Turning& turning : streams) name_keys(turning, inverse_frequencies);

  // Keys of plain pages turn where they lie, all of one layout at once, others by way of open
  // pages.
  std::unordered_map<const PageLayout*, std::vector<kernels::KeyTurn>> in_place;
  std::unordered_map<const PageLayout*, std::vector<PageInBasis>> their_pages;
  std::vector<EncodedPage> pages;
  std::vector<std::vector<kernels::KeyTurn>> of_pages;
  for (const Turning& turning : streams) {
    const PageOwner owner = owner_of(turning.id);
    const bool has_basis = basis_of(turning.id.sequence) != nullptr;
    std::map<std::size_t, std::vector<kernels::KeyTurn>> by_page;
    for (std::size_t i = 0; i < turning.keys.size(); ++i) {
      const kernels::KeyTurn& key = turning.keys[i];
      const PageLayout& layout = layout_at(*turning.stream, turning.places[i]);
      if ((layout.plain() && !has_basis) || key.page == turning.stream->open_page) {
        in_place[&layout].push_back(key);
        their_pages[&layout].push_back({key.page, sealer_.key_basis_of(owner)});
      } else {
        by_page[page_of(turning.places[i])].push_back(key);
      }
    }
    for (auto& [page, of_page] : by_page) {
      pages.push_back(encoded_page(*turning.stream, page, owner));
      of_pages.push_back(std::move(of_page));
    }
  }
  const auto turn = [&](const PageLayout& layout, std::span<const kernels::KeyTurn> some) {
    for_pieces_with_rows(device_, config_.head_dim, some, &kernels::KeyTurn::key,
                         [&](const View<const kernels::KeyTurn, 1>& piece) {
                           kernels::turn_keys(device_, {.layout = layout,
                                                        .inverse_frequencies =
                                                            on_device(device_, inverse_frequencies),
                                                        .turns = piece});
                         });
  };
  for (const auto& [layout, keys] : in_place) {
    turn(*layout, keys);
    if (layout->key_bounds) sealer_.summarize(*layout, std::move(their_pages[layout]));
  }
  edit_sealed(pages, [&](std::size_t first, DecodedPages open) {
    std::vector<kernels::KeyTurn> some;
    for (std::size_t p = 0; p < open.size(); ++p) {
      for (kernels::KeyTurn& one : of_pages[first + p]) {
        one.page = open[p];
        some.push_back(one);
      }
    }
    turn(open_layout_, some);
  });
}

/// Checks the turns on the way.
void KvCache::find_places(std::span<Turning> streams) const {
  std::vector<StreamPlaces> all;
  for (const Turning& turning : streams) {
    const std::int64_t count = turning.stream->num_places(config_.page_slots);
    std::vector<std::int32_t> places(static_cast<std::size_t>(count));
    std::iota(places.begin(), places.end(), 0);
    all.push_back({turning.id, turning.stream, std::move(places)});
  }
  std::vector<std::vector<Position>> positions = positions_of_places(all);
  for (std::size_t s = 0; s < streams.size(); ++s) {
    streams[s].places = places_to_turn(std::move(positions[s]), streams[s].turns);
  }
}

/// `positions`: of all places.
std::vector<std::int32_t> KvCache::places_to_turn(std::vector<Position> positions,
                                                  std::span<const Turn> turns) {
  std::vector<std::int32_t> places;
  for (const Turn& turn : turns) {
    const auto found = std::ranges::find(positions, turn.from);
    require(turn.from != kNoPosition && found != positions.end(), "kv_cache",
            "no slot to turn has position ", turn.from);
    places.push_back(static_cast<std::int32_t>(found - positions.begin()));
  }
  for (std::size_t i = 0; i < turns.size(); ++i) {
    require(turns[i].to >= 0 && turns[i].to < kNoPosition, "kv_cache", "position ", turns[i].to,
            " to turn to is outside [0, ", kNoPosition, ")");
    positions[static_cast<std::size_t>(places[i])] = turns[i].to;
  }
  std::erase(positions, kNoPosition);
  std::ranges::sort(positions);
  require(std::ranges::adjacent_find(positions) == positions.end(), "kv_cache",
          "two slots would have the same position");
  return places;
}

/// Of slots that have none yet, decoded, in the model's coordinates.
void KvCache::keep_copies(std::span<Turning> streams) {
  std::vector<SlotReader::Read> reads(streams.size());
  std::vector<std::vector<float>> keys(streams.size());
  std::vector<std::size_t> num_before;
  for (std::size_t s = 0; s < streams.size(); ++s) {
    auto& [id, stream, turns, places, copies, named, rows] = streams[s];
    num_before.push_back(stream->turned.size());
    std::vector<std::int32_t> without;
    for (std::size_t i = 0; i < turns.size(); ++i) {
      auto found = std::ranges::find(stream->turned, turns[i].from, &TurnedSlot::position);
      if (found == stream->turned.end()) {
        stream->turned.push_back(
            {.position = turns[i].from, .appended_at = turns[i].from, .key = {}});
        found = stream->turned.end() - 1;
        without.push_back(places[i]);
      }
      copies.push_back(static_cast<std::size_t>(found - stream->turned.begin()));
    }
    add_places(*stream, without, reads[s]);
    reads[s].key_basis = sealer_.key_basis_of(owner_of(id));
    keys[s].resize(without.size() * static_cast<std::size_t>(config_.head_dim));
    reads[s].to.keys = keys[s].data();
  }
  reader_.read(reads);
  for (std::size_t s = 0; s < streams.size(); ++s) {
    const auto& [id, stream, turns, places, copies, named, rows] = streams[s];
    leave_basis(basis_of(id.sequence), id.layer, id.kv_head, keys[s], {});
    auto key = keys[s].begin();
    for (std::size_t i = num_before[s]; i < stream->turned.size(); ++i, key += config_.head_dim) {
      stream->turned[i].key.assign(key, key + config_.head_dim);
    }
  }
}

/// The slots have their new positions, and it is known which key turns how.
void KvCache::name_keys(Turning& turning, std::span<const float> inverse_frequencies) const {
  for (std::size_t i = 0; i < turning.turns.size(); ++i) {
    TurnedSlot& slot = turning.stream->turned[turning.copies[i]];
    slot.position = turning.turns[i].to;
    // The newest entries of the sequence may lie in other shards.
    turning.stream->last_position = std::max(turning.stream->last_position, slot.position);
    const kernels::SlotRef ref = slot_at(*turning.stream, turning.places[i]);
    turning.keys.push_back({.key = slot.key.data(),
                            .page = ref.page,
                            .slot = ref.slot,
                            .from = slot.appended_at,
                            .to = slot.position});
  }
  const Basis* basis = basis_of(turning.id.sequence);
  if (basis == nullptr) return;
  turning.rows = turn_in_basis(*basis, turning.id, turning.keys, inverse_frequencies);
}

/// Keys are turned in the model's coordinates: on the host, where the basis is, to rows [n, D] that
/// turn no more.
std::vector<float> KvCache::turn_in_basis(const Basis& basis, const StreamId& id,
                                          std::span<kernels::KeyTurn> turns,
                                          std::span<const float> inverse_frequencies) const {
  DeviceBuffer<std::byte> memory(Device::kCpu, open_layout_.page_bytes());
  std::byte* page = memory.data();
  kernels::clear_pages(exec_, {.layout = open_layout_, .pages = {&page, {1}}});
  const auto head_dim = static_cast<std::ptrdiff_t>(config_.head_dim);
  const auto at_once = static_cast<std::size_t>(config_.page_slots);
  std::vector<float> rows;
  for (std::size_t begin = 0; begin < turns.size(); begin += at_once) {
    const auto some = turns.subspan(begin, std::min(at_once, turns.size() - begin));
    std::vector<kernels::KeyTurn> here(some.begin(), some.end());
    for (std::size_t i = 0; i < here.size(); ++i) {
      here[i].page = page;
      here[i].slot = static_cast<std::int32_t>(i);
    }
    kernels::turn_keys(exec_, {.layout = open_layout_,
                               .inverse_frequencies = {inverse_frequencies.data(),
                                                       {std::ssize(inverse_frequencies)}},
                               .turns = view_of<const kernels::KeyTurn>(here)});
    const std::vector<float> turned = PageRows(open_layout_, {&page, 1}).read(/*keys=*/true);
    rows.insert(rows.end(), turned.begin(), turned.begin() + std::ssize(here) * head_dim);
  }
  map_rows(basis.of_keys(id.layer), id.kv_head, rows);
  const float* row = rows.data();
  for (kernels::KeyTurn& turn : turns) {
    turn.key = row;
    turn.from = turn.to;
    row += head_dim;
  }
  return rows;
}

/// Slots that go take their copies along.
void KvCache::forget_turned(std::span<const StreamPlaces> gone) const {
  std::vector<StreamPlaces> with_copies;
  std::ranges::copy_if(gone, std::back_inserter(with_copies),
                       [](const StreamPlaces& some) { return !some.stream->turned.empty(); });
  std::vector<std::vector<Position>> positions = positions_of_places(with_copies);
  for (std::size_t i = 0; i < with_copies.size(); ++i) {
    std::ranges::sort(positions[i]);
    std::erase_if(with_copies[i].stream->turned, [&](const TurnedSlot& slot) {
      return std::ranges::binary_search(positions[i], slot.position);
    });
  }
}

}  // namespace pikv
