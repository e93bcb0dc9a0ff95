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

/// The first `count` slots of an open page.
void read_page(const PageLayout& layout, const std::byte* page, std::int32_t count, bool with_keys,
               bool with_values, KvCache::HeadContents& contents) {
  const std::int32_t* positions = positions_in(layout, page);
  contents.positions.insert(contents.positions.end(), positions, positions + count);
  const auto head_dim = static_cast<std::size_t>(layout.head_dim);
  if (with_keys) {
    const auto* keys = reinterpret_cast<const float*>(page);
    const std::size_t begin = contents.keys.size();
    contents.keys.resize(begin + static_cast<std::size_t>(count) * head_dim);
    float* to = contents.keys.data() + begin;
    for (std::int32_t slot = 0; slot < count; ++slot) {
      for (std::int32_t d = 0; d < layout.head_dim; ++d) {
        *to++ = keys[static_cast<std::ptrdiff_t>(d) * layout.num_slots + slot];
      }
    }
  }
  if (with_values) {
    const auto* values = reinterpret_cast<const float*>(page + layout.key_bytes());
    for (std::int32_t slot = 0; slot < count; ++slot) {
      const float* row = values + static_cast<std::ptrdiff_t>(slot) * layout.value_stride();
      contents.values.insert(contents.values.end(), row, row + head_dim);
    }
  }
}

}  // namespace

void KvCache::read_slots(SequenceId sequence, LayerId layer, HeadId kv_head, bool with_keys,
                         bool with_values, HeadContents& contents) const {
  contents.positions.clear();
  contents.keys.clear();
  contents.values.clear();
  const Streams& streams = streams_of(sequence);
  const bool decodes = (with_keys || with_values) && !seals_in_place();
  DeviceBuffer<std::byte> decoded(exec_.device());
  if (decodes) decoded.resize_discard(open_layout_.page_bytes());
  for (const ShardId shard : local_shards_.at(index(layer))) {
    const Stream& stream = streams[stream_index(layer, shard, index(kv_head))];
    for (const std::byte* page : stream.sealed_pages) {
      if (decodes) {
        std::byte* target = decoded.data();
        codec_.unseal(exec_, open_layout_, {&page, {1}}, {&target, {1}});
        read_page(open_layout_, target, config_.page_slots, with_keys, with_values, contents);
      } else {
        read_page(sealed_layout_, page, config_.page_slots, with_keys, with_values, contents);
      }
    }
    if (stream.open_page != nullptr) {
      read_page(open_layout_, stream.open_page, stream.open_slots, with_keys, with_values,
                contents);
    }
  }
}

}  // namespace pikv
