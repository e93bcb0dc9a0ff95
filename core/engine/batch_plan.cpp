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
      count = std::min(count, active[i].next_stop() - active[i].num_computed);
      chunk_left -= count;
    }
    if (count == 0) continue;
    plan.slices.push_back(
        {.active_idx = i, .begin = active[i].num_computed, .end = active[i].num_computed + count});
    plan.num_tokens += count;
  }
  return plan;
}

RankRows rows_of_rank(const BatchPlan& plan, const std::vector<ActiveSequence>& active, int rank,
                      int num_ranks) {
  RankRows result;
  for (const SequenceSlice& slice : plan.slices) {
    const ActiveSequence& sequence = active[slice.active_idx];
    const std::int64_t count = slice.end - slice.begin;
    std::int64_t begin = slice.begin + count * rank / num_ranks;
    std::int64_t end = slice.begin + count * (rank + 1) / num_ranks;
    if (count == 1) {
      const bool is_home = static_cast<int>(index(sequence.id)) % num_ranks == rank;
      begin = slice.begin;
      end = is_home ? slice.end : slice.begin;
    }
    for (std::int64_t i = begin; i < end; ++i) {
      if (i + 1 == static_cast<std::int64_t>(sequence.tokens.size())) {
        result.last_rows.push_back(static_cast<std::int32_t>(result.rows.size()));
        result.last_sequences.push_back(slice.active_idx);
      }
      result.rows.push(sequence.tokens[static_cast<std::size_t>(i)], sequence.id,
                       static_cast<Position>(i));
    }
  }
  return result;
}

}  // namespace pikv
