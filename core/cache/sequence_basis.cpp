// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A sequence gets coordinates of its own: its pages are written once more, in these.
#include <algorithm>
#include <numeric>

#include "core/cache/before_rope.hpp"
#include "core/cache/kv_cache.hpp"
#include "core/cache/page_rows.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv {

std::vector<KvCache::HeadMoments> KvCache::moments(SequenceId sequence, LayerId layer) const {
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  std::vector<HeadContents> contents(num_heads);
  std::vector<HeadMoments> moments;
  for (std::size_t head = 0; head < num_heads; ++head) {
    read_slots(sequence, layer, id_from<HeadId>(head), true, true, contents[head]);
    moments.push_back({RowMoments(config_.head_dim), RowMoments(config_.head_dim)});
    if (!codec_.fits_keys_before_rope()) continue;
    turn_back_keys(exec_, contents[head].positions, inverse_frequencies(), contents[head].keys);
  }
  kernels::cpu::parallel_for(exec_, 2 * config_.num_kv_heads, [&](std::int64_t i, int) {
    const auto head = static_cast<std::size_t>(i / 2);
    i % 2 == 0 ? moments[head].keys.add(contents[head].keys)
               : moments[head].values.add(contents[head].values);
  });
  return moments;
}

/// The pages that a sequence takes in another basis, beside those that it gives back for them.
std::vector<PagePool::Request> KvCache::pages_to_enter(SequenceId sequence,
                                                       const SequenceBasis& basis) const {
  std::vector<PagePool::Request> requests;
  for (const PageLayout& layout : sealed_layouts_) requests.push_back({layout.page_bytes(), 0});
  for (const StreamId& id : stream_ids(sequence)) {
    const Stream& stream = stream_of(id);
    const std::uint8_t form = form_in(basis, id.layer, index(id.kv_head));
    const auto num_there = std::ranges::count(stream.sealed_forms, form);
    const std::int64_t num_full = stream.num_slots(config_.page_slots) / config_.page_slots;
    requests[form].num_pages +=
        static_cast<std::size_t>(std::max<std::int64_t>(num_full - num_there, 0));
  }
  requests.push_back({open_layout_.page_bytes(), 1});  // pages are filled one after another
  return requests;
}

bool KvCache::make_room_to_enter(SequenceId sequence, const SequenceBasis& basis) {
  return pool_.reserve(pages_to_enter(sequence, basis));
}

void KvCache::enter_basis(SequenceId sequence, std::shared_ptr<const SequenceBasis> basis) {
  require(make_room_to_enter(sequence, *basis), "kv_cache",
          "no room to write the pages of sequence ", index(sequence), " anew");
  const auto num_heads = shard_map_.num_layers() * config_.num_kv_heads;
  const bool pre_rope = std::ranges::any_of(
      basis->forms, [&](std::uint8_t f) { return sealed_layouts_.at(f).keys.pre_rope; });
  require((basis->pre_rope_keys.empty() && !pre_rope) ||
              std::ssize(basis->pre_rope_keys) == num_heads * config_.head_dim * config_.head_dim,
          "kv_cache", basis->pre_rope_keys.size(), " numbers are no bases of keys before RoPE for ",
          num_heads, " heads");
  const Basis* before = basis_of(sequence);
  // An operand whose basis stays leaves it and enters it again: what an encoder dropped comes back
  // as zeros but for rounding, of which the encoder makes as little.
  for (const StreamId& id : stream_ids(sequence)) {
    const Stream& stream = stream_of(id);
    std::vector<std::int32_t> all(static_cast<std::size_t>(stream.num_slots(config_.page_slots)));
    std::iota(all.begin(), all.end(), 0);
    const std::vector<std::uint8_t> forms(all.size() / static_cast<std::size_t>(config_.page_slots),
                                          form_in(*basis, id.layer, index(id.kv_head)));
    const Relay once_more{.id = id,
                          .first_page = 0,
                          .places = places_of(stream, all),
                          .forms = forms,
                          .basis = basis.get()};
    relay(std::span(&once_more, 1), [&](DecodedPages decoded) {
      const PageRows pages(open_layout_, decoded);
      std::vector<float> keys = pages.read(/*keys=*/true);
      std::vector<float> values = pages.read(/*keys=*/false);
      leave_basis(before, id.layer, id.kv_head, keys, values);
      map_rows(basis->basis.of_keys(id.layer), id.kv_head, keys);
      map_rows(basis->basis.of_values(id.layer), id.kv_head, values);
      pages.write(/*keys=*/true, keys);
      pages.write(/*keys=*/false, values);
    });
  }
  sequences_.at(sequence).own_basis = std::move(basis);
}

}  // namespace pikv
