// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every placement promises (core/policy/placement.hpp), over the whole table.
#include <gtest/gtest.h>

#include <algorithm>

#include "routing/tables.hpp"
#include "tests/contract/family_names.hpp"

namespace pikv {
namespace {

constexpr std::int64_t kLayers = 3;

template <class Check>
void for_each_size(const Check& check) {
  for (int num_ranks = 1; num_ranks <= 9; ++num_ranks) {
    for (std::int64_t num_shards = 1; num_shards <= 9; ++num_shards) {
      SCOPED_TRACE(testing::Message() << "R = " << num_ranks << ", E = " << num_shards);
      check(
          PlacementInput{.num_layers = kLayers, .num_shards = num_shards, .num_ranks = num_ranks});
    }
  }
}

/// Shards of each rank, in one layer or, with no layer given, in all.
std::vector<std::int64_t> loads(const ShardMap& map, std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(map.num_ranks()), 0);
  for (std::int64_t layer = first; layer < last; ++layer) {
    for (std::int64_t shard = 0; shard < map.num_shards(); ++shard) {
      ++counts.at(
          static_cast<std::size_t>(map.rank_of(id_from<LayerId>(layer), id_from<ShardId>(shard))));
    }
  }
  return counts;
}

std::int64_t spread(const std::vector<std::int64_t>& counts) {
  return *std::ranges::max_element(counts) - *std::ranges::min_element(counts);
}

class PlacementContract : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static ShardMap place(const PlacementInput& input) {
    return make_policy("placement", routing::placements(), GetParam())->place(input);
  }
};

TEST_P(PlacementContract, EveryShardHasOneOwnerInRange) {
  for_each_size([&](const PlacementInput& input) {
    const ShardMap map = place(input);
    EXPECT_EQ(map.num_layers(), input.num_layers);
    EXPECT_EQ(map.num_shards(), input.num_shards);
    EXPECT_EQ(map.num_ranks(), input.num_ranks);
    for (std::int64_t l = 0; l < kLayers; ++l) {
      const auto layer = id_from<LayerId>(l);
      std::vector<int> times_owned(static_cast<std::size_t>(input.num_shards), 0);
      std::vector<int> holders;
      for (int rank = 0; rank < input.num_ranks; ++rank) {
        const std::vector<ShardId> shards = map.shards_of(layer, rank);
        EXPECT_TRUE(std::ranges::is_sorted(shards));
        if (!shards.empty()) holders.push_back(rank);
        for (const ShardId shard : shards) {
          ++times_owned.at(index(shard));
          EXPECT_EQ(map.rank_of(layer, shard), rank);
        }
      }
      EXPECT_EQ(times_owned, std::vector<int>(static_cast<std::size_t>(input.num_shards), 1));
      EXPECT_EQ(map.ranks_with_shards(layer), holders);
    }
  });
}

TEST_P(PlacementContract, EveryCallGivesTheSameMap) {
  for_each_size(
      [&](const PlacementInput& input) { EXPECT_EQ(place(input).hash(), place(input).hash()); });
}

TEST_P(PlacementContract, TheHashTellsMapsApart) {
  const PlacementInput input{.num_layers = 2, .num_shards = 4, .num_ranks = 2};
  const ShardMap map = place(input);
  std::vector<std::int32_t> owners;
  for (std::uint32_t i = 0; i < 8; ++i) {
    owners.push_back(map.rank_of(LayerId{i / 4}, ShardId{i % 4}));
  }
  EXPECT_EQ(ShardMap(2, 4, 2, owners).hash(), map.hash());
  for (std::int32_t& owner : owners) {
    owner = 1 - owner;
    EXPECT_NE(ShardMap(2, 4, 2, owners).hash(), map.hash());
    owner = 1 - owner;
  }
}

TEST_P(PlacementContract, NoRankHasMoreThanOneShardAboveAnotherInALayer) {
  for_each_size([&](const PlacementInput& input) {
    const ShardMap map = place(input);
    for (std::int64_t l = 0; l < kLayers; ++l) EXPECT_LE(spread(loads(map, l, l + 1)), 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Placements, PlacementContract,
                         testing::ValuesIn(names_of(routing::placements())),
                         [](const auto& info) { return info.param; });

TEST(ContiguousPlacement, WorkedByHand) {
  const ShardMap map = make_policy("placement", routing::placements(), "contiguous")
                           ->place({.num_layers = 1, .num_shards = 8, .num_ranks = 3});
  std::vector<int> owners;
  for (std::uint32_t s = 0; s < 8; ++s) owners.push_back(map.rank_of(LayerId{0}, ShardId{s}));
  EXPECT_EQ(owners, (std::vector<int>{0, 0, 0, 1, 1, 1, 2, 2}));
}

TEST(RoundRobinPlacement, RanksAreBalancedWithinOneOverAllLayersToo) {
  const auto placement = make_policy("placement", routing::placements(), "round_robin");
  for_each_size([&](const PlacementInput& input) {
    PlacementInput whole_turn = input;
    whole_turn.num_layers = input.num_ranks;
    EXPECT_EQ(spread(loads(placement->place(whole_turn), 0, whole_turn.num_layers)), 0);
  });
}

}  // namespace
}  // namespace pikv
