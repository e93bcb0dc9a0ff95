// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a KvCache holds, in bytes and slots, and whether its tables agree with each other.
#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "core/cache/kv_cache.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

std::size_t KvCache::bytes_of(const Stream& stream) const {
  std::size_t bytes = stream.open_page != nullptr ? open_layout_.page_bytes() : 0;
  for (const std::uint8_t form : stream.sealed_forms) bytes += sealed_layouts_[form].page_bytes();
  return bytes;
}

std::size_t KvCache::page_bytes(SequenceId sequence) const {
  std::size_t bytes = 0;
  for (const Stream& stream : streams_of(sequence)) bytes += bytes_of(stream);
  return bytes;
}

CacheStats KvCache::stats() const {
  CacheStats stats;
  stats.page_bytes = pool_.bytes_in_use();
  stats.reserved_bytes = pool_.bytes_reserved();
  stats.peak_page_bytes = pool_.peak_bytes_in_use();
  stats.num_evicted_slots = num_evicted_slots_;
  stats.num_sequences = static_cast<std::int64_t>(sequences_.size());
  std::set<const SequenceBasis*> bases;  // forks share them
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.own_basis) bases.insert(sequence.own_basis.get());
    stats.table_bytes += sequence.streams.capacity() * sizeof(Stream);
    for (const Stream& stream : sequence.streams) {
      stats.table_bytes += stream.sealed_pages.capacity() * sizeof(std::byte*) +
                           stream.sealed_forms.capacity() +
                           stream.holes.capacity() * sizeof(std::int32_t) +
                           stream.turned.capacity() * sizeof(TurnedSlot);
      for (const TurnedSlot& slot : stream.turned) {
        stats.table_bytes += slot.key.capacity() * sizeof(float);
      }
      stats.num_slots += stream.num_slots(config_.page_slots);
      stats.num_pages += static_cast<std::int64_t>(stream.sealed_pages.size()) +
                         (stream.open_page != nullptr ? 1 : 0);
    }
  }
  for (const SequenceBasis* own : bases) {
    stats.table_bytes +=
        own->basis.bytes() + own->forms.capacity() + own->pre_rope_keys.capacity() * sizeof(float);
  }
  stats.bf16_bytes =
      static_cast<std::size_t>(stats.num_slots * config_.head_dim) * 2 * size_bytes(DType::kBf16);
  return stats;
}

std::vector<ShardUsage> KvCache::shard_usage(LayerId layer) const {
  std::vector<ShardUsage> usage;
  for (const ShardId shard : local_shards_.at(index(layer))) {
    ShardUsage& row = usage.emplace_back(ShardUsage{.shard = shard});
    for (const auto& [id, sequence] : sequences_) {
      for (std::size_t head = 0; head < static_cast<std::size_t>(config_.num_kv_heads); ++head) {
        const Stream& stream = sequence.streams[stream_index(layer, shard, head)];
        row.num_slots += stream.num_slots(config_.page_slots);
        row.page_bytes += bytes_of(stream);
      }
    }
  }
  return usage;
}

void KvCache::check_integrity() const {
  pool_.check_integrity();
  ensure(pending_.empty() && prepared_.empty(), "no append is half done");
  std::size_t bytes = 0;
  for (const auto& [id, sequence] : sequences_) {
    if (const SequenceBasis* own = sequence.own_basis.get()) {
      ensure(own->forms.size() ==
                     local_shards_.size() * static_cast<std::size_t>(config_.num_kv_heads) &&
                 std::ranges::all_of(own->forms,
                                     [&](std::uint8_t f) { return f < sealed_layouts_.size(); }),
             "a sequence's basis names a form of the codec for every head");
    }
    for (const Stream& stream : sequence.streams) {
      ensure(stream.sealed_forms.size() == stream.sealed_pages.size() &&
                 std::ranges::all_of(stream.sealed_forms,
                                     [&](std::uint8_t f) { return f < sealed_layouts_.size(); }),
             "every sealed page has a form of the codec");
      ensure((sequence.own_basis && !sequence.own_basis->pre_rope_keys.empty()) ||
                 std::ranges::none_of(
                     stream.sealed_forms,
                     [&](std::uint8_t f) { return sealed_layouts_[f].keys.pre_rope; }),
             "pages of keys before RoPE have a basis to rebuild these");
      bytes += bytes_of(stream);
      ensure((stream.open_page != nullptr) == (stream.open_slots > 0),
             "an open page was written to");
      ensure(stream.open_slots < config_.page_slots, "a full page is sealed");
      const std::size_t num_pages =
          stream.sealed_pages.size() + (stream.open_page != nullptr ? 1 : 0);
      std::vector<std::int32_t> places(num_pages * static_cast<std::size_t>(config_.page_slots));
      std::iota(places.begin(), places.end(), 0);
      SlotReader::Read read;
      add_places(stream, places, read);
      std::vector<Position> positions(places.size());
      read.to.positions = positions.data();
      reader_.read(read);
      const auto unwritten = positions.begin() + stream.num_places(config_.page_slots);
      ensure(std::all_of(unwritten, positions.end(), [](Position p) { return p == kNoPosition; }),
             "unwritten slots have no position");
      ensure(std::ranges::all_of(stream.holes,
                                 [&](std::int32_t place) {
                                   return positions.at(static_cast<std::size_t>(place)) ==
                                          kNoPosition;
                                 }),
             "a hole has no position");
      std::erase(positions, kNoPosition);
      ensure(static_cast<std::int64_t>(positions.size()) == stream.num_slots(config_.page_slots),
             "every place is a slot or a hole");
      ensure(static_cast<std::int32_t>(stream.holes.size()) < config_.page_slots &&
                 std::ranges::adjacent_find(stream.holes, std::greater_equal<>{}) ==
                     stream.holes.end(),
             "holes ascend and make up less than a page");
      std::ranges::sort(positions);
      ensure(std::ranges::adjacent_find(positions) == positions.end(),
             "no two slots have the same position");
      ensure(positions.empty() || positions.back() <= stream.last_position,
             "no slot is newer than the stream's newest");
      for (const TurnedSlot& slot : stream.turned) {
        ensure(std::ranges::binary_search(positions, slot.position), "a turned slot is a slot");
      }
    }
  }
  ensure(bytes == pool_.bytes_in_use(), "every page in use belongs to one stream");
}

}  // namespace pikv
