// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Values of named slots: reading them, and changing them where they lie.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "core/cache/row_pieces.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void KvCache::read_values(const StreamId& id, std::span<const std::int32_t> subscripts,
                          std::vector<float>& values) const {
  const std::size_t num_before = values.size();
  values.resize(num_before + subscripts.size() * static_cast<std::size_t>(config_.head_dim));
  const Slots slots{id, subscripts};
  float* to = values.data() + num_before;
  read_values(std::span(&slots, 1), std::span(&to, 1));
}

void KvCache::read_values(std::span<const Slots> slots, std::span<float* const> values) const {
  std::vector<SlotReader::Read> reads(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const auto& [id, subscripts] = slots[i];
    const Stream& stream = stream_of(id);
    check_subscripts(subscripts, stream.num_slots(config_.page_slots));
    add_places(stream, places_of(stream, subscripts), reads[i]);
    reads[i].key_basis = sealer_.key_basis_of(owner_of(id));
    reads[i].to.values = values[i];
  }
  reader_.read(reads);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const StreamId& id = slots[i].stream;
    const auto size = static_cast<std::size_t>(reads[i].num_rows * config_.head_dim);
    leave_basis(basis_of(id.sequence), id.layer, id.kv_head, {}, {values[i], size});
  }
}

void KvCache::update_values(const StreamId& id, std::span<const ValueUpdate> updates) {
  const ValueUpdates of_stream{id, updates};
  update_values(std::span(&of_stream, 1));
}

void KvCache::update_values(std::span<const ValueUpdates> updates) {
  std::vector<std::vector<std::int32_t>> places;
  for (const auto& [id, of_stream] : updates) {
    const Stream& stream = stream_of(id);
    std::vector<std::int32_t> subscripts;
    for (const ValueUpdate& update : of_stream) subscripts.push_back(update.slot);
    check_subscripts(subscripts, stream.num_slots(config_.page_slots));
    places.push_back(places_of(stream, subscripts));
  }
  std::vector<std::vector<float>> addends;     // in the bases of the sequences
  std::vector<kernels::ValueUpdate> in_place;  // of pages that are as open ones
  std::vector<kernels::ValueUpdate> in_sealed;
  std::vector<EncodedPage> pages;  // of these, each once
  std::vector<std::size_t> begin;  // of each page, among these
  for (std::size_t s = 0; s < updates.size(); ++s) {
    const auto& [id, of_stream] = updates[s];
    const Stream& stream = stream_of(id);
    addends.push_back(addends_in_basis(id, of_stream));
    for (std::size_t i = 0; i < of_stream.size(); ++i) {
      const kernels::SlotRef ref = slot_at(stream, places[s][i]);
      const auto row = i * static_cast<std::size_t>(config_.head_dim);
      const kernels::ValueUpdate update{
          .addend = addends[s].empty() ? of_stream[i].addend : addends[s].data() + row,
          .page = ref.page,
          .slot = ref.slot,
          .scale = of_stream[i].scale};
      if (seals_in_place() || ref.page == stream.open_page) {
        in_place.push_back(update);
        continue;
      }
      if (pages.empty() || pages.back().page != ref.page) {
        pages.push_back(encoded_page(stream, page_of(places[s][i]), owner_of(id)));
        begin.push_back(in_sealed.size());
      }
      in_sealed.push_back(update);
    }
  }
  begin.push_back(in_sealed.size());
  const auto update_open = [&](std::span<const kernels::ValueUpdate> some) {
    for_pieces_with_rows(device_, config_.head_dim, some, &kernels::ValueUpdate::addend,
                         [&](const View<const kernels::ValueUpdate, 1>& piece) {
                           kernels::update_values(device_,
                                                  {.layout = open_layout_, .updates = piece});
                         });
  };
  update_open(in_place);
  edit_sealed(pages, [&](std::size_t first, DecodedPages open) {
    for (std::size_t p = 0; p < open.size(); ++p) {
      for (std::size_t i = begin[first + p]; i < begin[first + p + 1]; ++i) {
        in_sealed[i].page = open[p];
      }
    }
    const std::size_t count = begin[first + open.size()] - begin[first];
    update_open(std::span(in_sealed).subspan(begin[first], count));
  });
}

}  // namespace pikv
