// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A KV router names the shard that owns each new cache entry. An entry has exactly one owner, so
// attention over all shards is attention over a set (DESIGN 1). Reading is exact: a query reads
// every shard.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/ids.hpp"

namespace pikv {

/// New entries of one layer, one a token.
struct KvRouterInput {
  LayerId layer;
  std::span<const SequenceId> sequences;  // [T]
  std::span<const Position> positions;    // [T]
  /// The expert that the token's gate ranked first in the last layer that has a gate; negative
  /// before the first such layer. [T]
  std::span<const std::int32_t> last_expert;
  std::int64_t num_shards;
};

class KvRouter {
 public:
  virtual ~KvRouter() = default;

  /// Whether owners depend on `last_expert`; otherwise it may be empty.
  [[nodiscard]] virtual bool reads_experts() const { return false; }

  /// owners [T], each below num_shards. A function of the input alone: every rank and every run
  /// gives an entry the same owner.
  virtual void choose_owners(const KvRouterInput& input, std::span<ShardId> owners) const = 0;
};

}  // namespace pikv
