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
  Stream& stream = stream_of(id);
  const std::vector<std::int32_t> places = places_to_turn(stream, turns);
  const std::vector<std::size_t> copies = keep_copies(id, turns, places);
  std::vector<kernels::KeyTurn> all;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    TurnedSlot& slot = stream.turned[copies[i]];
    slot.position = turns[i].to;
    // The newest entries of the sequence may lie in other shards.
    stream.last_position = std::max(stream.last_position, slot.position);
    const kernels::SlotRef ref = slot_at(stream, places[i]);
    all.push_back({.key = slot.key.data(),
                   .page = ref.page,
                   .slot = ref.slot,
                   .from = slot.appended_at,
                   .to = slot.position});
  }
  const Basis* basis = basis_of(id.sequence);
  std::vector<float> in_basis;
  if (basis != nullptr) in_basis = turn_in_basis(*basis, id, all, inverse_frequencies);

  // Keys of plain pages turn where they lie, all of one layout at once, others by way of open
  // pages.
  std::unordered_map<const PageLayout*, std::vector<kernels::KeyTurn>> in_place;
  std::map<std::size_t, std::vector<kernels::KeyTurn>> by_page;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const PageLayout& layout = layout_at(stream, places[i]);
    if ((layout.plain() && basis == nullptr) || all[i].page == stream.open_page) {
      in_place[&layout].push_back(all[i]);
    } else {
      by_page[page_of(places[i])].push_back(all[i]);
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
  for (const auto& [layout, of_layout] : in_place) {
    turn(*layout, of_layout);
    if (!layout->key_bounds) continue;
    std::vector<PageInBasis> pages;
    for (const kernels::KeyTurn& one : of_layout) {
      pages.push_back({one.page, key_basis_of(owner_of(id))});
    }
    summarize(device_, *layout, std::move(pages));
  }
  std::vector<EncodedPage> pages;
  std::vector<std::vector<kernels::KeyTurn>> of_pages;
  for (auto& [page, of_page] : by_page) {
    pages.push_back(encoded_page(stream, page, owner_of(id)));
    of_pages.push_back(std::move(of_page));
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

/// Of slots that have none yet; where those of all turns are among the copies.
std::vector<std::size_t> KvCache::keep_copies(const StreamId& id, std::span<const Turn> turns,
                                              std::span<const std::int32_t> places) {
  Stream& stream = stream_of(id);
  std::vector<std::size_t> copies;
  std::vector<std::int32_t> without;
  const std::size_t num_before = stream.turned.size();
  for (std::size_t i = 0; i < turns.size(); ++i) {
    auto found = std::ranges::find(stream.turned, turns[i].from, &TurnedSlot::position);
    if (found == stream.turned.end()) {
      stream.turned.push_back({.position = turns[i].from, .appended_at = turns[i].from, .key = {}});
      found = stream.turned.end() - 1;
      without.push_back(places[i]);
    }
    copies.push_back(static_cast<std::size_t>(found - stream.turned.begin()));
  }
  const std::vector<float> keys = keys_at(id, without);
  auto key = keys.begin();
  for (std::size_t i = num_before; i < stream.turned.size(); ++i, key += config_.head_dim) {
    stream.turned[i].key.assign(key, key + config_.head_dim);
  }
  return copies;
}

/// Checks the turns on the way.
std::vector<std::int32_t> KvCache::places_to_turn(const Stream& stream,
                                                  std::span<const Turn> turns) const {
  std::vector<std::int32_t> all(static_cast<std::size_t>(stream.num_places(config_.page_slots)));
  std::iota(all.begin(), all.end(), 0);
  std::vector<Position> positions = positions_of_places(stream, all);
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

/// [places, D], decoded, in the model's coordinates.
std::vector<float> KvCache::keys_at(const StreamId& id,
                                    std::span<const std::int32_t> places) const {
  SlotReader::Read read;
  add_places(stream_of(id), places, read);
  read.key_basis = key_basis_of(owner_of(id));
  std::vector<float> keys(places.size() * static_cast<std::size_t>(config_.head_dim));
  read.to.keys = keys.data();
  reader_.read(read);
  leave_basis(basis_of(id.sequence), id.layer, id.kv_head, keys, {});
  return keys;
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
void KvCache::forget_turned(const Gone& gone) const {
  std::vector<TurnedSlot>& turned = gone.stream->turned;
  if (turned.empty()) return;
  std::vector<Position> positions = positions_of_places(*gone.stream, gone.places);
  std::ranges::sort(positions);
  std::erase_if(turned, [&](const TurnedSlot& slot) {
    return std::ranges::binary_search(positions, slot.position);
  });
}

}  // namespace pikv
