// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Slots in tiers: what they are worth decides in how many bits they are kept.
#include <algorithm>
#include <numeric>

#include "core/cache/kv_cache.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
bool KvCache::tiers_due(const StreamId& id) const {
  const Stream& stream = stream_of(id);
  const auto num_new = static_cast<std::size_t>(stream.untiered_pages);
  return num_new > 0 && num_new >= stream.sealed_pages.size() / 8;
}

void KvCache::tier_slots(const StreamId& id, std::span<const float> worths) {
  Stream& stream = stream_of(id);
  const auto num_slots = static_cast<std::size_t>(stream.num_slots(config_.page_slots));
  require(has_tiers(), "kv_cache", "the codec has no tiers");
  require(worths.size() == num_slots, "kv_cache", worths.size(), " worths for ", num_slots,
          " slots");
  if (!tiers_due(id)) return;

  const std::size_t num_full = num_slots / static_cast<std::size_t>(config_.page_slots);
  Relay into_tiers{.id = id,
                   .first_page = 0,
                   .places = {},
                   .forms = codec_.forms_of_pages(id.layer, id.kv_head, num_full),
                   .basis = owner_of(id).basis};
  if (!make_room_for(std::span(&into_tiers, 1))) return;

  // Subscripts of slots: the newest last, the others by worth, of equal ones the newer first.
  const std::vector<Position> positions = positions_of(stream);
  std::vector<std::int32_t> order(num_slots);
  std::iota(order.begin(), order.end(), 0);
  const auto position = [&](std::int32_t i) { return positions[static_cast<std::size_t>(i)]; };
  const auto worth = [&](std::int32_t i) { return worths[static_cast<std::size_t>(i)]; };
  std::ranges::sort(order, {}, position);
  const auto in_pages =
      order.begin() +
      static_cast<std::ptrdiff_t>(num_full * static_cast<std::size_t>(config_.page_slots));
  std::sort(order.begin(), in_pages, [&](std::int32_t a, std::int32_t b) {
    return worth(a) != worth(b) ? worth(a) > worth(b) : position(a) > position(b);
  });
  std::vector<std::int32_t> all(num_slots);
  std::iota(all.begin(), all.end(), 0);
  const std::vector<std::int32_t> places = places_of(stream, all);
  for (const std::int32_t i : order)
    into_tiers.places.push_back(places[static_cast<std::size_t>(i)]);
  relay(std::span(&into_tiers, 1));
  stream.untiered_pages = 0;
}

}  // namespace pikv
