// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/batch_plan.hpp"

#include <algorithm>

namespace pikv {

BatchPlan plan_batch(const std::vector<ActiveSequence>& active, std::int64_t chunk_tokens) {
  BatchPlan plan;
  plan.is_decode = true;
  std::int64_t chunk_left = chunk_tokens;
  for (std::size_t i = 0; i < active.size(); ++i) {
    const std::int64_t pending = active[i].num_pending();
    std::int64_t count = 1;
    if (pending > 1 || active[i].num_computed < active[i].num_prompt) {
      plan.is_decode = false;
      count = std::min(pending, chunk_left);
      count = std::min(count, active[i].next_run - active[i].num_computed);
      // Whatever the scheduler: the same cuts, and the same rounding, for all of them.
      if (active[i].num_computed < active[i].num_context) {
        count = std::min(count, active[i].num_context - active[i].num_computed);
      }
      count = std::min(count, active[i].end - active[i].num_computed);
      chunk_left -= count;
    }
    if (count == 0) continue;
    plan.slices.push_back(
        {.active_idx = i, .begin = active[i].num_computed, .end = active[i].num_computed + count});
    plan.num_tokens += count;
  }
  return plan;
}

namespace {

/// Tokens of a slice that a rank computes, [begin, end).
SequenceSlice part_of_rank(const SequenceSlice& slice, SequenceId sequence, int rank,
                           int num_ranks) {
  const std::int64_t count = slice.end - slice.begin;
  SequenceSlice part = slice;
  if (count == 1) {
    if (static_cast<int>(index(sequence)) % num_ranks != rank) part.end = slice.begin;
    return part;
  }
  part.begin = slice.begin + count * rank / num_ranks;
  part.end = slice.begin + count * (rank + 1) / num_ranks;
  return part;
}

}  // namespace

RankRows rows_of_rank(const BatchPlan& plan, const std::vector<ActiveSequence>& active, int rank,
                      int num_ranks, bool shared) {
  RankRows result;
  result.rows.is_shared = shared;
  RowsOfRanks& all = result.rows.all;
  for (int r = 0; r < num_ranks; ++r) {
    all.first_row.push_back(all.size());
    for (const SequenceSlice& slice : plan.slices) {
      const ActiveSequence& sequence = active[slice.active_idx];
      const SequenceSlice part = part_of_rank(slice, sequence.id, r, num_ranks);
      for (std::int64_t i = part.begin; i < part.end; ++i) {
        all.sequences.push_back(sequence.id);
        all.positions.push_back(static_cast<Position>(i));
        if (r == rank && i + 1 == static_cast<std::int64_t>(sequence.tokens.size())) {
          result.last_rows.push_back(static_cast<std::int32_t>(result.rows.size()));
          result.last_sequences.push_back(slice.active_idx);
        }
        if (r != rank && !shared) continue;
        result.rows.push(sequence.tokens[static_cast<std::size_t>(i)], sequence.id,
                         static_cast<Position>(i));
      }
    }
  }
  all.first_row.push_back(all.size());
  return result;
}

}  // namespace pikv
