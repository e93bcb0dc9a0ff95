// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/batch_plan.hpp"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

ActiveSequence sequence(std::uint32_t id, std::int64_t num_prompt, std::int64_t num_generated,
                        std::int64_t num_computed) {
  ActiveSequence active{
      .id = SequenceId{id}, .tokens = {}, .num_prompt = num_prompt, .num_computed = num_computed};
  for (std::int64_t i = 0; i < num_prompt + num_generated; ++i) {
    active.tokens.push_back(static_cast<TokenId>(1000 * id + static_cast<std::uint32_t>(i)));
  }
  return active;
}

TEST(BatchPlan, NothingActiveIsNothingToDo) {
  const BatchPlan plan = plan_batch({}, 16);
  EXPECT_TRUE(plan.slices.empty());
  EXPECT_EQ(plan.num_tokens, 0);
  EXPECT_EQ(rows_of_rank(plan, {}, 0, 1).rows.size(), 0);
}

TEST(BatchPlan, PrefillSharesTheChunkInTheOrderOfArrival) {
  const std::vector<ActiveSequence> active = {sequence(0, 10, 0, 0), sequence(1, 10, 0, 0),
                                              sequence(2, 10, 0, 0)};
  const BatchPlan plan = plan_batch(active, 16);
  ASSERT_EQ(plan.slices.size(), 2u);
  EXPECT_EQ(plan.slices[0].begin, 0);
  EXPECT_EQ(plan.slices[0].end, 10);
  EXPECT_EQ(plan.slices[1].active_idx, 1u);
  EXPECT_EQ(plan.slices[1].end, 6);
  EXPECT_EQ(plan.num_tokens, 16);
  EXPECT_FALSE(plan.is_decode);
}

TEST(BatchPlan, DecodeRowsRunBesidesAFullChunk) {
  const std::vector<ActiveSequence> active = {sequence(0, 100, 0, 50), sequence(1, 5, 3, 7),
                                              sequence(2, 9, 1, 9)};
  const BatchPlan plan = plan_batch(active, 4);
  ASSERT_EQ(plan.slices.size(), 3u);
  EXPECT_EQ(plan.slices[0].begin, 50);
  EXPECT_EQ(plan.slices[0].end, 54);
  EXPECT_EQ(plan.slices[1].begin, 7);
  EXPECT_EQ(plan.slices[2].begin, 9);
  EXPECT_EQ(plan.num_tokens, 6);
  EXPECT_FALSE(plan.is_decode);
}

TEST(BatchPlan, OneTokenOfEachSequenceIsDecode) {
  const BatchPlan plan = plan_batch({sequence(0, 5, 1, 5), sequence(1, 1, 1, 1)}, 1);
  EXPECT_TRUE(plan.is_decode);
  EXPECT_EQ(plan.num_tokens, 2);
}

TEST(BatchPlan, APromptOfOneTokenIsPrefill) {
  EXPECT_FALSE(plan_batch({sequence(0, 1, 0, 0)}, 8).is_decode);
}

TEST(BatchPlan, ALoneTokenRunsOnItsHomeRankAndALongSliceOnAll) {
  const std::vector<ActiveSequence> active = {sequence(4, 5, 1, 5), sequence(5, 7, 0, 0)};
  const BatchPlan plan = plan_batch(active, 100);
  // Sequence 4 is at home on rank 4 mod 3 = 1; seven tokens over three ranks are 2, 2 and 3.
  const std::vector<std::vector<Position>> expected = {{0, 1}, {5, 2, 3}, {4, 5, 6}};
  for (int rank = 0; rank < 3; ++rank) {
    const RankRows mine = rows_of_rank(plan, active, rank, 3);
    EXPECT_EQ(mine.rows.positions, expected[static_cast<std::size_t>(rank)]);
  }
  EXPECT_EQ(rows_of_rank(plan, active, 1, 3).last_rows, (std::vector<std::int32_t>{0}));
  EXPECT_EQ(rows_of_rank(plan, active, 2, 3).last_rows, (std::vector<std::int32_t>{2}));
  EXPECT_EQ(rows_of_rank(plan, active, 2, 3).last_sequences, (std::vector<std::size_t>{1}));
}

TEST(BatchPlan, EveryPlannedTokenIsOnExactlyOneRankInAscendingOrder) {
  Random random(151);
  for (int round = 0; round < 300; ++round) {
    std::vector<ActiveSequence> active;
    for (std::uint32_t s = 0; s < static_cast<std::uint32_t>(random.integer(0, 6)); ++s) {
      const std::int64_t prompt = random.integer(1, 40);
      const bool decodes = random.integer(0, 1) == 0;
      const std::int64_t generated = decodes ? random.integer(1, 9) : 0;
      active.push_back(sequence(s, prompt, generated,
                                decodes ? prompt + generated - 1 : random.integer(0, prompt - 1)));
    }
    const std::int64_t chunk = random.integer(1, 64);
    const int num_ranks = static_cast<int>(random.integer(1, 7));
    const BatchPlan plan = plan_batch(active, chunk);

    std::int64_t prefill = 0;
    std::multiset<std::pair<SequenceId, Position>> planned;
    std::multiset<std::size_t> ends;
    for (const SequenceSlice& slice : plan.slices) {
      const ActiveSequence& owner = active[slice.active_idx];
      ASSERT_EQ(slice.begin, owner.num_computed);
      ASSERT_GT(slice.end, slice.begin);
      if (slice.begin < owner.num_prompt) prefill += slice.end - slice.begin;
      for (std::int64_t i = slice.begin; i < slice.end; ++i) {
        planned.emplace(owner.id, static_cast<Position>(i));
      }
      if (slice.end == static_cast<std::int64_t>(owner.tokens.size()))
        ends.insert(slice.active_idx);
    }
    ASSERT_LE(prefill, chunk);
    ASSERT_EQ(static_cast<std::int64_t>(planned.size()), plan.num_tokens);

    std::multiset<std::pair<SequenceId, Position>> ran;
    std::multiset<std::size_t> chosen;
    std::vector<Position> newest(active.size(), -1);
    const RowsOfRanks all = rows_of_rank(plan, active, 0, num_ranks).rows.all;
    ASSERT_EQ(all.first_row.size(), static_cast<std::size_t>(num_ranks) + 1);
    ASSERT_EQ(all.first_row.back(), plan.num_tokens);
    for (int rank = 0; rank < num_ranks; ++rank) {
      const RankRows mine = rows_of_rank(plan, active, rank, num_ranks);
      ASSERT_EQ(mine.rows.all.first_row, all.first_row) << "every rank knows the same";
      const auto begin = all.first_row[static_cast<std::size_t>(rank)];
      const auto end = all.first_row[static_cast<std::size_t>(rank) + 1];
      ASSERT_EQ(end - begin, mine.rows.size());
      for (std::int64_t i = begin; i < end; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const auto row = static_cast<std::size_t>(i - begin);
        ASSERT_EQ(all.positions[at], mine.rows.positions[row]);
        ASSERT_EQ(all.sequences[at], mine.rows.sequences[row]);
      }
      const RankRows shared = rows_of_rank(plan, active, rank, num_ranks, /*shared=*/true);
      ASSERT_TRUE(shared.rows.is_shared);
      ASSERT_EQ(shared.rows.sequences, all.sequences);
      ASSERT_EQ(shared.rows.positions, all.positions);
      ASSERT_EQ(shared.last_sequences, mine.last_sequences);
      for (std::size_t i = 0; i < mine.last_rows.size(); ++i) {
        ASSERT_EQ(shared.last_rows[i], mine.last_rows[i] + begin);
      }
      for (std::size_t r = 0; r < mine.rows.positions.size(); ++r) {
        const auto s = index(mine.rows.sequences[r]);
        ran.emplace(mine.rows.sequences[r], mine.rows.positions[r]);
        ASSERT_GT(mine.rows.positions[r], newest[s]) << "lower ranks hold earlier positions";
        newest[s] = mine.rows.positions[r];
        ASSERT_EQ(mine.rows.tokens[r],
                  active[s].tokens[static_cast<std::size_t>(mine.rows.positions[r])]);
      }
      ASSERT_EQ(mine.last_rows.size(), mine.last_sequences.size());
      for (std::size_t i = 0; i < mine.last_rows.size(); ++i) {
        const auto row = static_cast<std::size_t>(mine.last_rows[i]);
        ASSERT_EQ(index(mine.rows.sequences[row]), mine.last_sequences[i]);
        ASSERT_EQ(mine.rows.positions[row] + 1,
                  static_cast<Position>(active[mine.last_sequences[i]].tokens.size()));
        chosen.insert(mine.last_sequences[i]);
      }
    }
    ASSERT_EQ(ran, planned);
    ASSERT_EQ(chosen, ends) << "one rank chooses the next token of each sequence at its end";
  }
}

}  // namespace
}  // namespace pikv
