// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/base/random.hpp"
#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

class HashKvRouter final : public KvRouter {
 public:
  explicit HashKvRouter(std::uint64_t seed) : seed_(seed) {}

  void choose_owners(const KvRouterInput& input, std::span<ShardId> owners) const override {
    for (std::size_t t = 0; t < owners.size(); ++t) {
      const std::uint64_t stream =
          std::uint64_t{index(input.sequences[t])} << 32 | index(input.layer);
      owners[t] = id_from<ShardId>(
          random_bits(seed_, stream, static_cast<std::uint64_t>(input.positions[t])) %
          static_cast<std::uint64_t>(input.num_shards));
    }
  }

 private:
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<const KvRouter> make_hash_kv_router(PolicyOptions options) {
  const auto seed = static_cast<std::uint64_t>(options.integer("seed", 0, 0, 1LL << 62));
  options.finish();
  return std::make_unique<HashKvRouter>(seed);
}

}  // namespace pikv::routing
