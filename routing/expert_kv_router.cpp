// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys and values live with the expert that the token preferred last. Tokens that an expert likes
// thus share a shard, and the load of shards follows the load of experts.
#include <algorithm>

#include "core/base/random.hpp"
#include "kernels/common/error.hpp"
#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

class ExpertKvRouter final : public KvRouter {
 public:
  [[nodiscard]] bool reads_experts() const override { return true; }
  void choose_owners(const KvRouterInput& input, std::span<ShardId> owners) const override {
    const auto num_shards = static_cast<std::uint64_t>(input.num_shards);
    if (num_shards == 1) {
      std::ranges::fill(owners, ShardId{0});
      return;
    }
    for (std::size_t t = 0; t < owners.size(); ++t) {
      const std::int32_t expert = input.last_expert[t];
      // With fewer shards than experts, neighbours in the numbering share one.
      owners[t] = id_from<ShardId>(
          expert >= 0 ? static_cast<std::uint64_t>(expert) % num_shards
                      : mix_bits(static_cast<std::uint64_t>(input.positions[t])) % num_shards);
    }
  }
};

}  // namespace

std::unique_ptr<const KvRouter> make_expert_kv_router(PolicyOptions options) {
  options.finish();
  return std::make_unique<ExpertKvRouter>();
}

}  // namespace pikv::routing
