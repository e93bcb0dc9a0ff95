// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Runs of consecutive positions go to the shards in turn, so shards differ by at most one run. The
// turn starts one shard later in each layer, which spreads the newest run of a sequence over ranks.
#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

// One page of the default size: a run fills its page.
constexpr std::int64_t kDefaultRun = 16;

class BlockKvRouter final : public KvRouter {
 public:
  explicit BlockKvRouter(std::int64_t run) : run_(run) {}

  void choose_owners(const KvRouterInput& input, std::span<ShardId> owners) const override {
    const auto shift = static_cast<std::int64_t>(index(input.layer));
    for (std::size_t t = 0; t < owners.size(); ++t) {
      owners[t] = id_from<ShardId>((input.positions[t] / run_ + shift) % input.num_shards);
    }
  }

 private:
  std::int64_t run_;  // tokens
};

}  // namespace

std::unique_ptr<const KvRouter> make_block_kv_router(PolicyOptions options) {
  const std::int64_t run = options.integer("tokens", kDefaultRun, 1, 1 << 20);
  options.finish();
  return std::make_unique<BlockKvRouter>(run);
}

}  // namespace pikv::routing
