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

// The account of a page is asked for so many pages early.
constexpr std::size_t kPagesAhead = 8;

/// Reads the slots of pages of one layout, holes left out. `contents` grows by runs of slots: pages
/// are whole most of the time.
class SlotReader {
 public:
  SlotReader(const PageLayout& layout, bool with_keys, bool with_values,
             KvCache::HeadContents& contents)
      : layout_(layout), with_keys_(with_keys), with_values_(with_values), contents_(contents) {}

  void read(const std::byte* page) {
    const std::int32_t* positions = positions_in(layout_, page);
    // Whole pages are the rule.
    if (std::find(positions, positions + layout_.num_slots, kNoPosition) ==
        positions + layout_.num_slots) {
      read_run(page, 0, layout_.num_slots);
      return;
    }
    for (std::int32_t begin = 0; begin < layout_.num_slots;) {
      if (positions[begin] == kNoPosition) {
        ++begin;
        continue;
      }
      std::int32_t end = begin + 1;
      while (end < layout_.num_slots && positions[end] != kNoPosition) ++end;
      read_run(page, begin, end);
      begin = end;
    }
  }

 private:
  void read_run(const std::byte* page, std::int32_t begin, std::int32_t end) {
    const std::int32_t* positions = positions_in(layout_, page);
    contents_.positions.insert(contents_.positions.end(), positions + begin, positions + end);
    if (with_keys_) read_keys(page, begin, end);
    if (with_values_) read_values(page, begin, end);
    if (!layout_.columns.empty()) read_columns(page, begin, end);
  }

  void read_keys(const std::byte* page, std::int32_t begin, std::int32_t end) {
    const auto* keys = reinterpret_cast<const float*>(page);
    const auto dim = static_cast<std::size_t>(layout_.head_dim);
    const std::size_t first = contents_.keys.size();
    contents_.keys.resize(first + static_cast<std::size_t>(end - begin) * dim);
    float* to = contents_.keys.data() + first;
    for (std::int32_t slot = begin; slot < end; ++slot) {
      for (std::size_t d = 0; d < dim; ++d) {
        *to++ =
            keys[d * static_cast<std::size_t>(layout_.num_slots) + static_cast<std::size_t>(slot)];
      }
    }
  }

  void read_values(const std::byte* page, std::int32_t begin, std::int32_t end) {
    const auto* values = reinterpret_cast<const float*>(page + layout_.key_bytes());
    for (std::int32_t slot = begin; slot < end; ++slot) {
      const float* row = values + static_cast<std::ptrdiff_t>(slot) * layout_.value_stride();
      contents_.values.insert(contents_.values.end(), row, row + layout_.head_dim);
    }
  }

  void read_columns(const std::byte* page, std::int32_t begin, std::int32_t end) {
    const auto* columns = reinterpret_cast<const float*>(page + layout_.columns_offset());
    const std::int32_t count = layout_.columns.count();
    if (count == 1) {
      contents_.columns.insert(contents_.columns.end(), columns + begin, columns + end);
      return;
    }
    for (std::int32_t slot = begin; slot < end; ++slot) {
      for (std::int32_t c = 0; c < count; ++c) {
        contents_.columns.push_back(columns[c * layout_.num_slots + slot]);
      }
    }
  }

  const PageLayout& layout_;
  bool with_keys_;
  bool with_values_;
  KvCache::HeadContents& contents_;
};

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
  SlotReader sealed(decodes ? open_layout_ : sealed_layout_, with_keys, with_values, contents);
  SlotReader open(open_layout_, with_keys, with_values, contents);
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
    const std::size_t num_sealed = stream.sealed_pages.size();
    for (std::size_t i = 0; i < num_sealed; ++i) {
      const std::byte* page = stream.sealed_pages[i];
      if (i + kPagesAhead < num_sealed) {  // pages lie anywhere in memory
        const std::byte* ahead = stream.sealed_pages[i + kPagesAhead];
        __builtin_prefetch(ahead + sealed_layout_.position_offset());
        __builtin_prefetch(ahead + sealed_layout_.columns_offset());
      }
      if (decodes) {
        std::byte* target = decoded.data();
        codec_.unseal(exec_, open_layout_, {&page, {1}}, {&target, {1}});
        sealed.read(target);
      } else {
        sealed.read(page);
      }
    }
    if (stream.open_page != nullptr) {
      open.read(stream.open_page);
    }
  }
}

}  // namespace pikv
