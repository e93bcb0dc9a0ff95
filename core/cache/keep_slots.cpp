// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Eviction: the slots that stay move together, and the pages that become empty go back to the pool.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void KvCache::keep_slots(const StreamId& id, std::span<const std::int32_t> keep) {
  Stream& stream = streams_of(id.sequence)[stream_index(id.layer, id.shard, index(id.kv_head))];
  const std::int64_t num_slots = stream.num_slots(config_.page_slots);
  for (std::size_t i = 0; i < keep.size(); ++i) {
    require(keep[i] >= 0 && keep[i] < num_slots && (i == 0 || keep[i] > keep[i - 1]), "kv_cache",
            "slots to keep must ascend below ", num_slots);
  }
  if (static_cast<std::int64_t>(keep.size()) == num_slots) return;

  // Slots before the first gap stay where they are; whole pages of them are not even read.
  std::size_t kept_in_place = 0;
  while (kept_in_place < keep.size() &&
         keep[kept_in_place] == static_cast<std::int32_t>(kept_in_place)) {
    ++kept_in_place;
  }
  const std::size_t first_page = kept_in_place / static_cast<std::size_t>(config_.page_slots);
  const std::int32_t first_slot = static_cast<std::int32_t>(first_page) * config_.page_slots;

  // The rest is decoded beside the pool and appended again.
  const std::size_t num_sealed =
      stream.sealed_pages.size() - std::min(first_page, stream.sealed_pages.size());
  std::vector<DeviceBuffer<std::byte>> decoded;
  std::vector<const std::byte*> sources(
      stream.sealed_pages.begin() +
          static_cast<std::ptrdiff_t>(stream.sealed_pages.size() - num_sealed),
      stream.sealed_pages.end());
  std::vector<std::byte*> targets;
  for (std::size_t i = 0; i < num_sealed; ++i) {
    targets.push_back(decoded.emplace_back(exec_.device(), open_layout_.page_bytes()).data());
  }
  if (num_sealed > 0) {
    if (seals_in_place()) {
      for (std::size_t i = 0; i < num_sealed; ++i) {
        copy_bytes(exec_, targets[i], exec_.device(), sources[i], exec_.device(),
                   open_layout_.page_bytes());
      }
    } else {
      codec_.unseal(exec_, open_layout_, view_of<const std::byte* const>(sources),
                    view_of<std::byte* const>(targets));
    }
  }
  if (stream.open_page != nullptr) {
    targets.push_back(decoded.emplace_back(exec_.device(), open_layout_.page_bytes()).data());
    copy_bytes(exec_, targets.back(), exec_.device(), stream.open_page, exec_.device(),
               open_layout_.page_bytes());
  }

  Stream tail;
  tail.sealed_pages.assign(stream.sealed_pages.end() - static_cast<std::ptrdiff_t>(num_sealed),
                           stream.sealed_pages.end());
  tail.open_page = stream.open_page;
  release_pages(tail);
  stream.sealed_pages.resize(stream.sealed_pages.size() - num_sealed);
  stream.open_page = nullptr;
  stream.open_slots = 0;
  const Position newest = stream.last_position;
  stream.last_position = -1;

  std::vector<float> key(static_cast<std::size_t>(config_.head_dim) * keep.size());
  std::vector<float> value(key.size());
  for (std::size_t i = static_cast<std::size_t>(first_slot); i < keep.size(); ++i) {
    const std::int32_t from = keep[i] - first_slot;
    const std::byte* page = targets[static_cast<std::size_t>(from / config_.page_slots)];
    const std::int32_t slot = from % config_.page_slots;
    const auto* keys = reinterpret_cast<const float*>(page);
    const auto* values = reinterpret_cast<const float*>(page + open_layout_.key_bytes());
    float* k = key.data() + i * static_cast<std::size_t>(config_.head_dim);
    float* v = value.data() + i * static_cast<std::size_t>(config_.head_dim);
    for (std::int64_t d = 0; d < config_.head_dim; ++d) {
      k[d] = keys[d * config_.page_slots + slot];
      v[d] = values[slot * open_layout_.value_stride() + d];
    }
    append_slot(stream, k, v, positions_in(open_layout_, page)[slot]);
    // A page at a time, so that one open page is enough.
    if (!full_pages_.empty()) run_pending();
  }
  run_pending();
  stream.last_position = newest;
  num_evicted_slots_ += num_slots - static_cast<std::int64_t>(keep.size());
}

}  // namespace pikv
