// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reading slots out of pages, for scoring.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/device_buffer.hpp"

namespace pikv {
namespace {

/// The slots of an open page, holes left out.
void read_page(const PageLayout& layout, const std::byte* page, bool with_keys, bool with_values,
               KvCache::HeadContents& contents) {
  const std::int32_t* positions = positions_in(layout, page);
  const auto* keys = reinterpret_cast<const float*>(page);
  const auto* values = reinterpret_cast<const float*>(page + layout.key_bytes());
  const auto* columns = reinterpret_cast<const float*>(page + layout.columns_offset());
  for (std::int32_t slot = 0; slot < layout.num_slots; ++slot) {
    if (positions[slot] == kNoPosition) continue;
    contents.positions.push_back(positions[slot]);
    if (with_keys) {
      for (std::int32_t d = 0; d < layout.head_dim; ++d) {
        contents.keys.push_back(keys[static_cast<std::ptrdiff_t>(d) * layout.num_slots + slot]);
      }
    }
    if (with_values) {
      const float* row = values + static_cast<std::ptrdiff_t>(slot) * layout.value_stride();
      contents.values.insert(contents.values.end(), row, row + layout.head_dim);
    }
    for (std::int32_t c = 0; c < layout.columns.count(); ++c) {
      contents.columns.push_back(columns[c * layout.num_slots + slot]);
    }
  }
}

}  // namespace

void KvCache::read_slots(SequenceId sequence, LayerId layer, HeadId kv_head, bool with_keys,
                         bool with_values, HeadContents& contents) const {
  contents.parts.clear();
  contents.positions.clear();
  contents.keys.clear();
  contents.values.clear();
  contents.columns.clear();
  contents.evicted_columns.assign(static_cast<std::size_t>(open_layout_.columns.count()), 0.0);
  const Streams& streams = streams_of(sequence);
  const bool decodes = (with_keys || with_values) && !seals_in_place();
  DeviceBuffer<std::byte> decoded(exec_.device());
  if (decodes) decoded.resize_discard(open_layout_.page_bytes());
  for (const ShardId shard : local_shards_.at(index(layer))) {
    const Stream& stream = streams[stream_index(layer, shard, index(kv_head))];
    for (std::size_t c = 0; c < stream.evicted_columns.size(); ++c) {
      contents.evicted_columns[c] += stream.evicted_columns[c];
    }
    if (stream.empty()) continue;
    contents.parts.push_back(
        {shard, static_cast<std::int32_t>(stream.num_slots(config_.page_slots))});
    for (const std::byte* page : stream.sealed_pages) {
      if (decodes) {
        std::byte* target = decoded.data();
        codec_.unseal(exec_, open_layout_, {&page, {1}}, {&target, {1}});
        read_page(open_layout_, target, with_keys, with_values, contents);
      } else {
        read_page(sealed_layout_, page, with_keys, with_values, contents);
      }
    }
    if (stream.open_page != nullptr) {
      read_page(open_layout_, stream.open_page, with_keys, with_values, contents);
    }
  }
}

}  // namespace pikv
