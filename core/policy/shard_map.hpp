// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Which rank holds each expert of each layer, and with it the KV shard of the same number.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

class ShardMap {
 public:
  /// owners[layer * num_shards + shard] = rank. Throws InvalidArgument for a rank outside [0, R).
  ShardMap(std::int64_t num_layers, std::int64_t num_shards, int num_ranks,
           std::vector<std::int32_t> owners);

  [[nodiscard]] std::int64_t num_layers() const { return num_layers_; }
  [[nodiscard]] std::int64_t num_shards() const { return num_shards_; }
  [[nodiscard]] int num_ranks() const { return num_ranks_; }

  [[nodiscard]] int rank_of(LayerId layer, ShardId shard) const {
    return owners_[index(layer) * static_cast<std::size_t>(num_shards_) + index(shard)];
  }
  /// Ascending.
  [[nodiscard]] std::vector<ShardId> shards_of(LayerId layer, int rank) const;
  /// Ranks with at least one shard of the layer, ascending.
  [[nodiscard]] std::vector<int> ranks_with_shards(LayerId layer) const;

  /// Equal maps have equal hashes on every rank; ranks compare them before they act on a map.
  [[nodiscard]] std::uint64_t hash() const;

 private:
  std::int64_t num_layers_;
  std::int64_t num_shards_;
  int num_ranks_;
  std::vector<std::int32_t> owners_;
};

}  // namespace pikv
