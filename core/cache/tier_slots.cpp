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
  const Worths of_stream{id, worths};
  tier_slots(std::span(&of_stream, 1));
}

void KvCache::tier_slots(std::span<const Worths> worths) {
  require(has_tiers(), "kv_cache", "the codec has no tiers");
  std::vector<const Worths*> due;
  for (const Worths& of_stream : worths) {
    const std::int64_t num_slots = stream_of(of_stream.stream).num_slots(config_.page_slots);
    require(std::ssize(of_stream.of_slots) == num_slots, "kv_cache", of_stream.of_slots.size(),
            " worths for ", num_slots, " slots");
    if (tiers_due(of_stream.stream)) due.push_back(&of_stream);
  }
  std::vector<SlotReader::Read> reads(due.size());
  std::vector<std::vector<Position>> positions;
  for (std::size_t i = 0; i < due.size(); ++i) {
    add_slots(stream_of(due[i]->stream), reads[i]);
    reads[i].to.positions = positions.emplace_back(due[i]->of_slots.size()).data();
  }
  reader_.read(reads);
  std::vector<Relay> relays;
  for (std::size_t i = 0; i < due.size(); ++i) {
    const StreamId& id = due[i]->stream;
    const std::size_t num_full =
        due[i]->of_slots.size() / static_cast<std::size_t>(config_.page_slots);
    relays.push_back({.id = id,
                      .first_page = 0,
                      .places = order_of_tiers(stream_of(id), positions[i], due[i]->of_slots),
                      .forms = codec_.forms_of_pages(id.layer, id.kv_head, num_full),
                      .basis = owner_of(id).basis});
  }
  std::vector<std::int32_t> still_untiered;
  for (const Relay& relay : relays) still_untiered.push_back(stream_of(relay.id).untiered_pages);
  for (const Relay& relay : relays) stream_of(relay.id).untiered_pages = 0;
  relay_groups(relays, [&](Relay& alone) {
    stream_of(alone.id).untiered_pages =
        still_untiered[static_cast<std::size_t>(&alone - relays.data())];
  });
}

/// Places of the slots: the newest last, the others by worth, of equal ones the newer first.
std::vector<std::int32_t> KvCache::order_of_tiers(const Stream& stream,
                                                  std::span<const Position> positions,
                                                  std::span<const float> worths) const {
  std::vector<std::int32_t> order(positions.size());
  std::iota(order.begin(), order.end(), 0);
  const auto position = [&](std::int32_t i) { return positions[static_cast<std::size_t>(i)]; };
  const auto worth = [&](std::int32_t i) { return worths[static_cast<std::size_t>(i)]; };
  const std::vector<std::int32_t> places = places_of(stream, order);
  std::ranges::sort(order, {}, position);
  const std::ptrdiff_t in_pages = std::ssize(order) / config_.page_slots * config_.page_slots;
  std::sort(order.begin(), order.begin() + in_pages, [&](std::int32_t a, std::int32_t b) {
    return worth(a) != worth(b) ? worth(a) > worth(b) : position(a) > position(b);
  });
  for (std::int32_t& i : order) i = places[static_cast<std::size_t>(i)];
  return order;
}

}  // namespace pikv
