// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A placement decides which rank holds each expert, and its KV shard with it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/policy/shard_map.hpp"

namespace pikv {

struct PlacementInput {
  std::int64_t num_layers = 0;
  std::int64_t num_shards = 0;
  int num_ranks = 0;
};

class Placement {
 public:
  virtual ~Placement() = default;

  /// A pure function with a fixed rule for ties: every rank computes the same map. More ranks than
  /// shards is allowed; some ranks then own nothing.
  [[nodiscard]] virtual ShardMap place(const PlacementInput& input) const = 0;
};

}  // namespace pikv
