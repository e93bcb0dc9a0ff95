// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reading slots out of pages, for scoring.
#include <algorithm>
#include <cstring>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv {
namespace {

// The account of a page is asked for so many pages early.
constexpr std::size_t kPagesAhead = 8;

/// Copies runs of slots out of pages, one after another.
class SlotReader {
 public:
  SlotReader(bool with_keys, bool with_values, KvCache::HeadContents& contents)
      : with_keys_(with_keys), with_values_(with_values), contents_(contents) {}

  /// The slots at places [begin, end) of a page.
  void read(const PageLayout& layout, const std::byte* page, std::int32_t begin, std::int32_t end) {
    copy(positions_in(layout, page), begin, end, contents_.positions.data() + num_read_);
    if (with_keys_) read_keys(layout, page, begin, end);
    if (with_values_) read_values(layout, page, begin, end);
    if (!layout.columns.empty()) read_columns(layout, page, begin, end);
    num_read_ += end - begin;
  }

 private:
  /// Most runs are whole pages: the compiler knows their size, or half of it.
  template <class T>
  static void copy(const T* from, std::int32_t begin, std::int32_t end, T* to) {
    constexpr std::int32_t kStep = 16;
    for (; end - begin >= kStep; begin += kStep, to += kStep) {
      std::memcpy(to, from + begin, kStep * sizeof(T));
    }
    std::copy(from + begin, from + end, to);
  }

  void read_keys(const PageLayout& layout, const std::byte* page, std::int32_t begin,
                 std::int32_t end) {
    const auto* keys = reinterpret_cast<const float*>(page);
    const std::ptrdiff_t dim = layout.head_dim;
    float* to = contents_.keys.data() + num_read_ * dim;
    for (std::int32_t slot = begin; slot < end; ++slot) {
      for (std::ptrdiff_t d = 0; d < dim; ++d) *to++ = keys[d * layout.num_slots + slot];
    }
  }

  void read_values(const PageLayout& layout, const std::byte* page, std::int32_t begin,
                   std::int32_t end) {
    const auto* values = reinterpret_cast<const float*>(page + layout.key_bytes());
    float* to = contents_.values.data() + num_read_ * layout.head_dim;
    for (std::int32_t slot = begin; slot < end; ++slot) {
      const float* row = values + static_cast<std::ptrdiff_t>(slot) * layout.value_stride();
      to = std::copy_n(row, layout.head_dim, to);
    }
  }

  void read_columns(const PageLayout& layout, const std::byte* page, std::int32_t begin,
                    std::int32_t end) {
    const auto* columns = reinterpret_cast<const float*>(page + layout.columns_offset());
    const std::int32_t count = layout.columns.count();
    float* to = contents_.columns.data() + num_read_ * count;
    if (count == 1) {
      copy(columns, begin, end, to);
      return;
    }
    for (std::int32_t slot = begin; slot < end; ++slot) {
      for (std::int32_t c = 0; c < count; ++c) *to++ = columns[c * layout.num_slots + slot];
    }
  }

  bool with_keys_;
  bool with_values_;
  KvCache::HeadContents& contents_;
  std::ptrdiff_t num_read_ = 0;  // slots
};

}  // namespace

void KvCache::read_slots(SequenceId sequence, LayerId layer, HeadId kv_head, bool with_keys,
                         bool with_values, HeadContents& contents) const {
  device_.synchronize();
  const auto& [streams, own_basis] = sequence_of(sequence);
  const PageOwner owner{own_basis.get(), layer, kv_head};
  const std::int32_t page_slots = config_.page_slots;
  const std::span<const ShardId> shards = local_shards_.at(index(layer));
  const auto stream_of_shard = [&](ShardId shard) -> const Stream& {
    return streams[stream_index(layer, shard, index(kv_head))];
  };
  contents.parts.clear();
  contents.evicted_columns.assign(static_cast<std::size_t>(open_layout_.columns.count()), 0.0);
  std::size_t num_slots = 0;
  for (const ShardId shard : shards) {
    const Stream& stream = stream_of_shard(shard);
    for (std::size_t c = 0; c < stream.evicted_columns.size(); ++c) {
      contents.evicted_columns[c] += stream.evicted_columns[c];
    }
    if (stream.empty()) continue;
    const std::int64_t count = stream.num_slots(page_slots);
    contents.parts.push_back({shard, static_cast<std::int32_t>(count)});
    num_slots += static_cast<std::size_t>(count);
  }
  const auto head_dim = static_cast<std::size_t>(config_.head_dim);
  contents.positions.resize(num_slots);
  contents.keys.resize(with_keys ? num_slots * head_dim : 0);
  contents.values.resize(with_values ? num_slots * head_dim : 0);
  contents.columns.resize(num_slots * contents.evicted_columns.size());

  const bool decodes = (with_keys || with_values) && !seals_in_place();
  DeviceBuffer<std::byte> decoded(exec_.device());
  if (decodes) decoded.resize_discard(open_layout_.page_bytes());
  SlotReader reader(with_keys, with_values, contents);
  for (const KvCache::HeadContents::Part& part : contents.parts) {
    const Stream& stream = stream_of_shard(part.shard);
    auto hole = stream.holes.begin();
    std::int32_t first_place = 0;
    const auto read_page = [&](const PageLayout& layout, const std::byte* page,
                               std::int32_t num_places) {
      std::int32_t begin = 0;
      for (; hole != stream.holes.end() && *hole < first_place + num_places; ++hole) {
        const std::int32_t end = *hole - first_place;
        if (begin < end) reader.read(layout, page, begin, end);
        begin = end + 1;
      }
      if (begin < num_places) reader.read(layout, page, begin, num_places);
      first_place += num_places;
    };
    const std::size_t num_sealed = stream.sealed_pages.size();
    for (std::size_t i = 0; i < num_sealed; ++i) {
      const std::byte* page = stream.sealed_pages[i];
      if (i + kPagesAhead < num_sealed) {  // pages lie anywhere in memory
        const std::byte* ahead = stream.sealed_pages[i + kPagesAhead];
        const PageLayout& layout = layout_of(stream, i + kPagesAhead);
        __builtin_prefetch(ahead + layout.position_offset());
        __builtin_prefetch(ahead + layout.columns_offset());
      }
      if (decodes) {
        unseal(stream, i, owner, decoded.data());
        read_page(open_layout_, decoded.data(), page_slots);
      } else {
        read_page(layout_of(stream, i), page, page_slots);
      }
    }
    if (stream.open_page != nullptr) read_page(open_layout_, stream.open_page, stream.open_slots);
  }
  leave_basis(basis_of(sequence), layer, kv_head, contents.keys, contents.values);
}

void KvCache::read_slots(SequenceId sequence, std::int64_t first, std::int64_t last, bool with_keys,
                         bool with_values, std::span<HeadContents* const> contents) const {
  // Head after head, as attention goes: what a thread wrote to the account it reads again.
  const std::int64_t num_heads = config_.num_kv_heads;
  const std::int64_t num_layers = last - first;
  const auto read = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t head = i / num_layers;
      const std::int64_t layer = i % num_layers;
      read_slots(sequence, id_from<LayerId>(first + layer), id_from<HeadId>(head), with_keys,
                 with_values, *contents[static_cast<std::size_t>(layer * num_heads + head)]);
    }
  };
  const std::int64_t count = num_layers * num_heads;
  const bool decodes = !seals_in_place() || basis_of(sequence) != nullptr;
  if ((with_keys || with_values) && decodes) {  // uses the threads itself
    read(0, count, 0);
  } else {
    kernels::cpu::parallel_ranges(exec_, count, 1, read);
  }
}

}  // namespace pikv
