// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the cache holds on every rank, gathered for a report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launch/runtime.hpp"

namespace pikv::launch {

struct ShardRow {
  std::int64_t shard;
  int rank;
  std::int64_t num_slots;
  std::int64_t page_bytes;
};

struct CacheReport {
  std::vector<CacheStats> ranks;  // [R]
  std::int64_t layer = 0;
  std::vector<ShardRow> shards;  // of that layer
  ReadStats reads;               // of all ranks

  [[nodiscard]] std::string to_text() const;
  [[nodiscard]] std::string to_json() const;
};

/// A collective; every rank gets the whole report.
[[nodiscard]] CacheReport gather_cache_report(Runtime& runtime, std::int64_t layer);

/// What decode read of the cache, on all ranks. A collective.
[[nodiscard]] ReadStats gather_read_stats(Runtime& runtime);

/// "12.3 MiB"
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

}  // namespace pikv::launch
