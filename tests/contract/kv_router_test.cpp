// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every KV router promises (core/policy/kv_router.hpp), over the whole table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "routing/tables.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kShards[] = {1, 2, 7, 64};

struct Tokens {
  std::vector<SequenceId> sequences;
  std::vector<Position> positions;
  std::vector<std::int32_t> last_expert;
};

std::vector<ShardId> owners_of(const KvRouter& router, LayerId layer, const Tokens& tokens,
                               std::int64_t num_shards) {
  std::vector<ShardId> owners(tokens.positions.size(), ShardId{0xffffffffu});
  router.choose_owners({.layer = layer,
                        .sequences = tokens.sequences,
                        .positions = tokens.positions,
                        .last_expert = tokens.last_expert,
                        .num_shards = num_shards},
                       owners);
  return owners;
}

Tokens random_tokens(Random& random, std::int64_t count) {
  Tokens tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.sequences.push_back(id_from<SequenceId>(random.integer(0, 100)));
    tokens.positions.push_back(static_cast<Position>(random.integer(0, 1 << 20)));
    tokens.last_expert.push_back(static_cast<std::int32_t>(random.integer(-1, 63)));
  }
  return tokens;
}

/// `count` consecutive positions of one sequence, before any gate.
Tokens run_of(std::int64_t count) {
  Tokens tokens;
  tokens.sequences.assign(static_cast<std::size_t>(count), SequenceId{3});
  tokens.positions.resize(static_cast<std::size_t>(count));
  std::iota(tokens.positions.begin(), tokens.positions.end(), 0);
  tokens.last_expert.assign(static_cast<std::size_t>(count), -1);
  return tokens;
}

std::vector<std::int64_t> loads(const std::vector<ShardId>& owners, std::int64_t num_shards) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(num_shards), 0);
  for (const ShardId owner : owners) ++counts.at(index(owner));
  return counts;
}

class KvRouterContract : public testing::TestWithParam<std::string> {
 protected:
  Random random_{181};
  std::unique_ptr<const KvRouter> router_ =
      make_policy("kv-owner", routing::kv_routers(), GetParam());
};

TEST_P(KvRouterContract, EveryOwnerIsAShard) {
  for (const std::int64_t num_shards : kShards) {
    for (const std::int64_t count : {0, 1, 1009}) {
      const Tokens tokens = random_tokens(random_, count);
      for (const std::uint32_t layer : {0u, 1u, 47u}) {
        for (const ShardId owner : owners_of(*router_, LayerId{layer}, tokens, num_shards)) {
          ASSERT_LT(index(owner), static_cast<std::size_t>(num_shards));
        }
      }
    }
  }
}

TEST_P(KvRouterContract, AnOwnerIsAFunctionOfItsEntryAlone) {
  const auto again = make_policy("kv-owner", routing::kv_routers(), GetParam());
  for (const std::int64_t num_shards : kShards) {
    const Tokens tokens = random_tokens(random_, 211);
    const auto owners = owners_of(*router_, LayerId{5}, tokens, num_shards);
    EXPECT_EQ(owners_of(*router_, LayerId{5}, tokens, num_shards), owners) << "the same twice";
    EXPECT_EQ(owners_of(*again, LayerId{5}, tokens, num_shards), owners) << "and elsewhere";
    for (std::size_t t = 0; t < owners.size(); t += 7) {
      const Tokens alone{.sequences = {tokens.sequences[t]},
                         .positions = {tokens.positions[t]},
                         .last_expert = {tokens.last_expert[t]}};
      EXPECT_EQ(owners_of(*router_, LayerId{5}, alone, num_shards)[0], owners[t]);
    }
  }
}

TEST_P(KvRouterContract, EveryShardIsUsed) {
  Tokens tokens = run_of(64 * 1024);
  for (std::size_t t = 0; t < tokens.last_expert.size(); ++t) {
    tokens.last_expert[t] = static_cast<std::int32_t>(t % 64);
  }
  for (const std::int64_t num_shards : kShards) {
    const auto counts = loads(owners_of(*router_, LayerId{2}, tokens, num_shards), num_shards);
    EXPECT_GT(*std::ranges::min_element(counts), 0) << num_shards << " shards";
  }
}

INSTANTIATE_TEST_SUITE_P(KvRouters, KvRouterContract,
                         testing::ValuesIn(names_of(routing::kv_routers())),
                         [](const auto& info) { return info.param; });

TEST(BlockKvRouter, ShardsDifferByAtMostOneRun) {
  for (const std::int64_t run : {1, 16, 37}) {
    const auto router =
        make_policy("kv-owner", routing::kv_routers(), "block:tokens=" + std::to_string(run));
    for (const std::int64_t num_shards : kShards) {
      for (const std::int64_t count : {1, 15, 16, 17, 1009}) {
        const auto counts =
            loads(owners_of(*router, LayerId{3}, run_of(count), num_shards), num_shards);
        EXPECT_LE(*std::ranges::max_element(counts) - *std::ranges::min_element(counts), run);
      }
    }
  }
}

TEST(BlockKvRouter, ARunStaysTogetherAndTheNextLayerStartsOneLater) {
  const auto router = make_policy("kv-owner", routing::kv_routers(), "block:tokens=3");
  const auto expect_owners = [&](LayerId layer, const std::vector<std::uint32_t>& expected) {
    std::vector<ShardId> shards;
    for (const std::uint32_t shard : expected) shards.push_back(ShardId{shard});
    EXPECT_EQ(owners_of(*router, layer, run_of(8), 2), shards);
  };
  expect_owners(LayerId{0}, {0, 0, 0, 1, 1, 1, 0, 0});
  expect_owners(LayerId{1}, {1, 1, 1, 0, 0, 0, 1, 1});
}

// Six standard deviations of a binomial count.
void expect_even(const std::vector<std::int64_t>& counts, std::int64_t total) {
  const double mean = static_cast<double>(total) / static_cast<double>(counts.size());
  for (const std::int64_t count : counts) {
    EXPECT_NEAR(static_cast<double>(count), mean, 6.0 * std::sqrt(mean));
  }
}

TEST(HashKvRouter, ShardsAreEvenAsThrowsOfADice) {
  constexpr std::int64_t kCount = 20'011;
  for (const char* spec : {"hash", "hash:seed=77"}) {
    const auto router = make_policy("kv-owner", routing::kv_routers(), spec);
    for (const std::int64_t num_shards : kShards) {
      expect_even(loads(owners_of(*router, LayerId{3}, run_of(kCount), num_shards), num_shards),
                  kCount);
    }
  }
}

TEST(HashKvRouter, SeedLayerAndSequenceAllMatter) {
  const auto plain = make_policy("kv-owner", routing::kv_routers(), "hash");
  const auto seeded = make_policy("kv-owner", routing::kv_routers(), "hash:seed=1");
  const Tokens tokens = run_of(200);
  Tokens other = tokens;
  other.sequences.assign(200, SequenceId{4});
  const auto owners = owners_of(*plain, LayerId{0}, tokens, 64);
  EXPECT_NE(owners_of(*seeded, LayerId{0}, tokens, 64), owners);
  EXPECT_NE(owners_of(*plain, LayerId{1}, tokens, 64), owners);
  EXPECT_NE(owners_of(*plain, LayerId{0}, other, 64), owners);
}

TEST(ExpertKvRouter, TheShardIsThatOfTheExpertRankedFirst) {
  const auto router = make_policy("kv-owner", routing::kv_routers(), "expert");
  Tokens tokens = run_of(4);
  tokens.last_expert = {0, 7, 3, 63};
  const auto numbers = [&](std::int64_t num_shards) {
    std::vector<std::size_t> result;
    for (const ShardId owner : owners_of(*router, LayerId{2}, tokens, num_shards)) {
      result.push_back(index(owner));
    }
    return result;
  };
  EXPECT_EQ(numbers(64), (std::vector<std::size_t>{0, 7, 3, 63}));
  EXPECT_EQ(numbers(7), (std::vector<std::size_t>{0, 0, 3, 0})) << "neighbours share, modulo";
}

TEST(ExpertKvRouter, BeforeTheFirstGatePositionsSpreadEvenly) {
  const auto router = make_policy("kv-owner", routing::kv_routers(), "expert");
  constexpr std::int64_t kCount = 20'011;
  expect_even(loads(owners_of(*router, LayerId{0}, run_of(kCount), 7), 7), kCount);
}

}  // namespace
}  // namespace pikv
