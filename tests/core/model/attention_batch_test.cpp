// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/attention_batch.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace pikv {
namespace {

/// The first rows of segments, run by run, of a batch with one segment for each of the sequences.
std::vector<std::vector<std::int32_t>> runs_of(const std::vector<std::uint32_t>& numbers) {
  std::vector<SequenceId> sequences;
  AttentionBatch batch{};
  for (const std::uint32_t number : numbers) {
    const auto row = static_cast<std::int32_t>(sequences.size());
    sequences.insert(sequences.end(), 2, SequenceId{number});
    batch.segments.push_back(
        {.row_begin = row, .row_end = row + 2, .first_stream = 0, .num_streams = 0});
  }
  batch.queries.sequences = sequences;
  std::vector<std::vector<std::int32_t>> result;
  for (const auto run : runs_of_own_sequences(batch)) {
    result.emplace_back();
    for (const auto& segment : run) result.back().push_back(segment.row_begin);
  }
  return result;
}

using Runs = std::vector<std::vector<std::int32_t>>;

TEST(AttentionBatch, IsOneRunWhereEachSequenceComesOnce) {
  EXPECT_EQ(runs_of({}), Runs{});
  EXPECT_EQ(runs_of({7}), (Runs{{0}}));
  EXPECT_EQ(runs_of({7, 3, 5}), (Runs{{0, 2, 4}}));
}

TEST(AttentionBatch, IsCutWhereASequenceComesAgain) {
  EXPECT_EQ(runs_of({1, 2, 1, 2}), (Runs{{0, 2}, {4, 6}}));
  EXPECT_EQ(runs_of({1, 2, 3, 2, 1, 3}), (Runs{{0, 2, 4}, {6, 8, 10}}));
  EXPECT_EQ(runs_of({1, 2, 2, 1, 2}), (Runs{{0, 2}, {4, 6}, {8}}));
}

}  // namespace
}  // namespace pikv
