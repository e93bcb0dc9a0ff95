// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "scheduling/scorer.hpp"
#include "tests/support/random.hpp"

namespace pikv::scheduling {
namespace {

/// Slots in any order, with many equal scores.
HeadScores random_head(testing_support::Random& random, std::int64_t size, Position next) {
  HeadScores head;
  std::vector<Position> all(static_cast<std::size_t>(next));
  std::iota(all.begin(), all.end(), Position{0});
  for (std::int64_t i = 0; i < size; ++i) {
    const auto other = static_cast<std::size_t>(random.integer(i, next - 1));
    std::swap(all[static_cast<std::size_t>(i)], all[other]);
    head.positions.push_back(all[static_cast<std::size_t>(i)]);
    head.scores.push_back(static_cast<float>(random.integer(0, 40)));
  }
  return head;
}

TEST(Ranking, TheWorstAreTheLastOfTheRanking) {
  testing_support::Random random(301);
  for (const std::int64_t size : {0, 1, 2, 63, 64, 65, 700, 1501}) {
    for (const Protection& protection :
         {Protection{}, Protection{.sinks = 4, .recents = 0},
          Protection{.sinks = 0, .recents = 600}, Protection{.sinks = 9, .recents = 1 << 30},
          Protection{.sinks = 1 << 30, .recents = 3}}) {
      const auto next = static_cast<Position>(size + 100);
      const HeadScores head = random_head(random, size, next);
      const std::vector<std::int32_t> order = ranked(head, protection, next);
      for (const std::size_t count : {0u, 1u, 2u, 40u, 93u, 100u, 700u, 2000u}) {
        SCOPED_TRACE(testing::Message()
                     << "seed 301, " << size << " slots, sinks " << protection.sinks << ", recents "
                     << protection.recents << ", the worst " << count);
        const std::size_t num_last = std::min(count, order.size());
        std::vector<std::int32_t> last(order.end() - static_cast<std::ptrdiff_t>(num_last),
                                       order.end());
        std::ranges::sort(last);
        EXPECT_EQ(worst(head, protection, next, count), last);
      }
    }
  }
}

}  // namespace
}  // namespace pikv::scheduling
