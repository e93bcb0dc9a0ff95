// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/shard_map.hpp"

#include "core/base/random.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

ShardMap::ShardMap(std::int64_t num_layers, std::int64_t num_shards, int num_ranks,
                   std::vector<std::int32_t> owners)
    : num_layers_(num_layers),
      num_shards_(num_shards),
      num_ranks_(num_ranks),
      owners_(std::move(owners)) {
  require(num_layers > 0 && num_shards > 0 && num_ranks > 0, "shard_map", num_layers, " layers, ",
          num_shards, " shards and ", num_ranks, " ranks must all be positive");
  require(owners_.size() == static_cast<std::size_t>(num_layers * num_shards), "shard_map",
          owners_.size(), " owners for ", num_layers, " layers of ", num_shards, " shards");
  for (const std::int32_t rank : owners_) {
    require(rank >= 0 && rank < num_ranks, "shard_map", "owner ", rank, " is outside [0, ",
            num_ranks, ")");
  }
}

std::vector<ShardId> ShardMap::shards_of(LayerId layer, int rank) const {
  std::vector<ShardId> shards;
  for (std::int64_t s = 0; s < num_shards_; ++s) {
    if (rank_of(layer, id_from<ShardId>(s)) == rank) shards.push_back(id_from<ShardId>(s));
  }
  return shards;
}

std::vector<int> ShardMap::ranks_with_shards(LayerId layer) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < num_ranks_; ++rank) {
    if (!shards_of(layer, rank).empty()) ranks.push_back(rank);
  }
  return ranks;
}

std::uint64_t ShardMap::hash() const {
  std::uint64_t hash = mix_bits(static_cast<std::uint64_t>(num_shards_));
  for (const std::int32_t rank : owners_) {
    hash = mix_bits(hash ^ static_cast<std::uint64_t>(rank));
  }
  return hash;
}

}  // namespace pikv
