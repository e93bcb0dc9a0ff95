// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// With fewer experts than ranks, or a count that the ranks do not divide, the shift by layer lets
// every rank hold about the same number of experts over the whole model.
#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

class RoundRobinPlacement final : public Placement {
 public:
  [[nodiscard]] ShardMap place(const PlacementInput& input) const override {
    std::vector<std::int32_t> owners;
    for (std::int64_t layer = 0; layer < input.num_layers; ++layer) {
      for (std::int64_t shard = 0; shard < input.num_shards; ++shard) {
        owners.push_back(static_cast<std::int32_t>((shard + layer) % input.num_ranks));
      }
    }
    return {input.num_layers, input.num_shards, input.num_ranks, std::move(owners)};
  }
};

}  // namespace

std::unique_ptr<const Placement> make_round_robin_placement(PolicyOptions options) {
  options.finish();
  return std::make_unique<RoundRobinPlacement>();
}

}  // namespace pikv::routing
