// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

class ContiguousPlacement final : public Placement {
 public:
  [[nodiscard]] ShardMap place(const PlacementInput& input) const override {
    std::vector<std::int32_t> owners;
    for (std::int64_t layer = 0; layer < input.num_layers; ++layer) {
      for (std::int64_t shard = 0; shard < input.num_shards; ++shard) {
        owners.push_back(static_cast<std::int32_t>(shard * input.num_ranks / input.num_shards));
      }
    }
    return {input.num_layers, input.num_shards, input.num_ranks, std::move(owners)};
  }
};

}  // namespace

std::unique_ptr<const Placement> make_contiguous_placement(PolicyOptions options) {
  options.finish();
  return std::make_unique<ContiguousPlacement>();
}

}  // namespace pikv::routing
