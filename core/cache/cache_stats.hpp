// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the cache of one rank holds. All bytes come from the allocator.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/ids.hpp"

namespace pikv {

struct CacheStats {
  std::size_t page_bytes = 0;      // pages in use: all that they hold, and padding
  std::size_t table_bytes = 0;     // page tables, stream records, keys before they turned, bases of
                                   // sequences
  std::size_t reserved_bytes = 0;  // what the pool took from the system
  std::size_t peak_page_bytes = 0;
  std::int64_t num_slots = 0;  // over all streams
  std::int64_t num_pages = 0;
  std::int64_t num_evicted_slots = 0;  // since the cache was made
  std::int64_t num_sequences = 0;
  std::size_t bf16_bytes = 0;  // the same slots as bare bf16 keys and values
};

struct ShardUsage {
  ShardId shard;
  std::int64_t num_slots = 0;  // over sequences and KV heads
  std::size_t page_bytes = 0;
};

}  // namespace pikv
