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
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void KvCache::turn_slots(const StreamId& id, std::span<const Turn> turns,
                         std::span<const float> inverse_frequencies) {
  device_.synchronize();
  Stream& stream = stream_of(id);
  const std::vector<std::int32_t> places = places_to_turn(stream, turns);
  // All copies first: keys are named by address below, and positions change as we go.
  std::vector<std::size_t> copies;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    auto found = std::ranges::find(stream.turned, turns[i].from, &TurnedSlot::position);
    if (found == stream.turned.end()) {
      stream.turned.push_back(
          {.position = turns[i].from, .appended_at = turns[i].from, .key = key_at(id, places[i])});
      found = stream.turned.end() - 1;
    }
    copies.push_back(static_cast<std::size_t>(found - stream.turned.begin()));
  }
  // Keys of plain pages turn where they lie, all of one layout at once, others by way of an open
  // page.
  std::unordered_map<const PageLayout*, std::vector<kernels::KeyTurn>> in_place;
  std::map<std::size_t, std::vector<kernels::KeyTurn>> by_page;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    TurnedSlot& slot = stream.turned[copies[i]];
    slot.position = turns[i].to;
    // The newest entries of the sequence may lie in other shards.
    stream.last_position = std::max(stream.last_position, slot.position);
    const kernels::SlotRef ref = slot_at(stream, places[i]);
    const kernels::KeyTurn turn{.key = slot.key.data(),
                                .page = ref.page,
                                .slot = ref.slot,
                                .from = slot.appended_at,
                                .to = slot.position};
    const PageLayout& layout = layout_at(stream, places[i]);
    const bool plain = layout.plain() && basis_of(id.sequence) == nullptr;
    if (plain || ref.page == stream.open_page) {
      in_place[&layout].push_back(turn);
    } else {
      by_page[page_of(places[i])].push_back(turn);
    }
  }
  const View<const float, 1> frequencies{inverse_frequencies.data(),
                                         {static_cast<std::int64_t>(inverse_frequencies.size())}};
  for (auto& [layout, of_layout] : in_place) {
    if (layout == &open_layout_) {
      turn_in_open_page(id, of_layout, frequencies);
    } else {
      kernels::turn_keys(exec_, {.layout = *layout,
                                 .inverse_frequencies = frequencies,
                                 .turns = view_of<const kernels::KeyTurn>(of_layout)});
    }
    if (!layout->key_bounds) continue;
    std::vector<PageInBasis> pages;
    for (const kernels::KeyTurn& turn : of_layout) {
      pages.push_back({turn.page, key_basis_of(owner_of(id))});
    }
    summarize(exec_, *layout, std::move(pages));
  }
  for (auto& [page, of_page] : by_page) {
    edit_sealed(id, page, [&](std::byte* open_page) {
      for (kernels::KeyTurn& turn : of_page) turn.page = open_page;
      turn_in_open_page(id, of_page, frequencies);
    });
  }
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

std::vector<float> KvCache::key_at(const StreamId& id, std::int32_t place) const {
  const Stream& stream = stream_of(id);
  const kernels::SlotRef ref = slot_at(stream, place);
  const std::byte* page = ref.page;
  DeviceBuffer<std::byte> decoded(exec_.device());
  if (page != stream.open_page && !seals_in_place()) {
    decoded.resize_discard(open_layout_.page_bytes());
    unseal(stream, page_of(place), owner_of(id), decoded.data());
    page = decoded.data();
  }
  std::vector<float> key;
  for (std::int32_t d = 0; d < open_layout_.head_dim; ++d) {
    key.push_back(reinterpret_cast<const float*>(page)[d * open_layout_.num_slots + ref.slot]);
  }
  leave_basis(basis_of(id.sequence), id.layer, id.kv_head, key, {});
  return key;
}

/// Pages laid out as open ones are; keys are turned in the model's coordinates.
void KvCache::turn_in_open_page(const StreamId& id, std::span<const kernels::KeyTurn> turns,
                                View<const float, 1> inverse_frequencies) {
  kernels::turn_keys(exec_, {.layout = open_layout_,
                             .inverse_frequencies = inverse_frequencies,
                             .turns = {turns.data(), {static_cast<std::int64_t>(turns.size())}}});
  const Basis* basis = basis_of(id.sequence);
  if (basis == nullptr) return;
  std::vector<float> key(static_cast<std::size_t>(config_.head_dim));
  for (const kernels::KeyTurn& turn : turns) {
    float* channels = reinterpret_cast<float*>(turn.page) + turn.slot;
    for (std::size_t d = 0; d < key.size(); ++d) {
      key[d] = channels[static_cast<std::ptrdiff_t>(d) * open_layout_.num_slots];
    }
    map_rows(basis->of_keys(id.layer), id.kv_head, key);
    for (std::size_t d = 0; d < key.size(); ++d) {
      channels[static_cast<std::ptrdiff_t>(d) * open_layout_.num_slots] = key[d];
    }
  }
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
