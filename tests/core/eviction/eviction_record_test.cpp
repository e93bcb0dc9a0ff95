// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/eviction_record.hpp"

#include <gtest/gtest.h>

#include "kernels/common/page_layout.hpp"

namespace pikv {
namespace {

using Positions = std::vector<Position>;
using Slots = std::vector<std::vector<std::int32_t>>;
using Moves = std::vector<std::vector<SlotMove>>;

constexpr Position kStays = kNoPosition;

/// Slots of two heads after `next` tokens.
SequenceScores slots(Position next, const std::vector<Positions>& positions) {
  SequenceScores result{.sequence = SequenceId{1},
                        .next_position = next,
                        .num_context = 0,
                        .num_kv_heads = 2,
                        .heads = {}};
  for (const Positions& head : positions) {
    result.heads.push_back({head, std::vector<float>(head.size())});
  }
  return result;
}

Positions gone(const EvictionRecord& record, std::size_t head) {
  const auto found = record.gone_after(head);
  return {found.begin(), found.end()};
}

TEST(EvictionRecord, KnowsWhenEachSlotWent) {
  EvictionRecord record;
  EXPECT_TRUE(record.gone_after(0).empty()) << "before the first run";
  // In any order; subscripts, not positions.
  record.add(slots(4, {{3, 0, 2, 1}, {0, 1, 2, 3}}), Slots{{0, 1}, {}}, Moves(2));
  EXPECT_EQ(gone(record, 0), (Positions{4, kStays, kStays, 4}));
  EXPECT_TRUE(gone(record, 1).empty());
  record.add(slots(6, {{4, 2, 1, 5}, {0, 1, 2, 3, 4, 5}}), Slots{{2}, {0, 4}}, Moves(2));
  EXPECT_EQ(gone(record, 0), (Positions{4, 6, kStays, 4}));
  EXPECT_EQ(gone(record, 1), (Positions{6, kStays, kStays, kStays, 6}));
}

TEST(EvictionRecord, FollowsSlotsThatMove) {
  EvictionRecord record;
  // The first two slots close up to the newest, the second to where the first one was.
  record.add(slots(5, {{0, 1, 2, 3, 4}, {}}), Slots{{1, 2}, {}},
             Moves{{{.slot = 0, .position = 2}}, {}});
  record.add(slots(7, {{2, 3, 4, 5, 6}, {}}), Slots{{2}, {}},
             Moves{{{.slot = 0, .position = 3}, {.slot = 1, .position = 4}}, {}});
  EXPECT_EQ(gone(record, 0), (Positions{kStays, 5, 5, kStays, 7}));
  // What stands at 3 was computed at 0, and what stands at 4 at 3.
  record.add(slots(9, {{3, 4, 5, 6, 7, 8}, {}}), Slots{{0, 1}, {}}, Moves(2));
  EXPECT_EQ(gone(record, 0), (Positions{9, 5, 5, 9, 7}));
}

TEST(EvictionRecord, APositionThatWasTakenAnewIsThatOfItsSlot) {
  EvictionRecord record;
  record.add(slots(3, {{0, 1, 2}, {}}), Slots{{1}, {}}, Moves{{{.slot = 0, .position = 1}}, {}});
  record.add(slots(4, {{1, 2, 3}, {}}), Slots{{1}, {}}, Moves{{{.slot = 0, .position = 2}}, {}});
  record.add(slots(5, {{2, 3, 4}, {}}), Slots{{0}, {}}, Moves(2));
  EXPECT_EQ(gone(record, 0), (Positions{5, 3, 4}));
}

}  // namespace
}  // namespace pikv
