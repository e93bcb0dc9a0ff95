// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every scheduler promises (core/policy/scheduler.hpp), over the whole table.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "scheduling/tables.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

class SchedulerContract : public testing::TestWithParam<std::string> {
 protected:
  /// What is kept of a stream with these positions, when the buffer held something before.
  [[nodiscard]] std::vector<std::int32_t> select(const std::vector<Position>& positions,
                                                 Position next) const {
    std::vector<std::int32_t> keep = {99, -5, 3};
    scheduler_->select({.sequence = SequenceId{1},
                        .layer = LayerId{2},
                        .kv_head = HeadId{0},
                        .shard = ShardId{3},
                        .positions = positions,
                        .next_position = next},
                       keep);
    return keep;
  }

  std::unique_ptr<const Scheduler> scheduler_ =
      make_policy("scheduler", scheduling::schedulers(), GetParam());
};

TEST_P(SchedulerContract, KeepsAscendingSlotsOfTheStream) {
  Random random(201);
  for (const std::int64_t size : {0, 1, 5, 100}) {
    for (int round = 0; round < 10; ++round) {
      std::vector<Position> positions;
      Position next = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        next += static_cast<Position>(random.integer(1, 9));
        positions.push_back(next);
      }
      const auto keep = select(positions, next + 1);
      ASSERT_TRUE(std::ranges::adjacent_find(keep, std::greater_equal<>{}) == keep.end());
      for (const std::int32_t slot : keep) {
        ASSERT_GE(slot, 0);
        ASSERT_LT(slot, size);
      }
      EXPECT_EQ(select(positions, next + 1), keep) << "the same twice";
      if (!scheduler_->evicts()) {
        EXPECT_EQ(keep.size(), positions.size()) << "who never evicts keeps all";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schedulers, SchedulerContract,
                         testing::ValuesIn(names_of(scheduling::schedulers())),
                         [](const auto& info) { return info.param; });

TEST(FullScheduler, NeverEvicts) {
  EXPECT_FALSE(make_policy("scheduler", scheduling::schedulers(), "full")->evicts());
}

}  // namespace
}  // namespace pikv
