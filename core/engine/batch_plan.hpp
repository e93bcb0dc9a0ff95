// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Which tokens run in a step, and on which rank. A plan is a function of the sequences alone, so
// every rank computes the same one.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "core/base/ids.hpp"
#include "core/engine/request.hpp"
#include "core/model/step_rows.hpp"

namespace pikv {

/// A request in progress.
struct ActiveSequence {
  SequenceId id;                // also the index of its request
  std::vector<TokenId> tokens;  // prompt and generated
  std::int64_t num_prompt = 0;
  std::int64_t num_context = 0;
  std::int64_t next_run =
      std::numeric_limits<std::int64_t>::max();  // see Scheduler; a step ends there
  std::int64_t num_computed = 0;                 // tokens that went through the cache
  std::int64_t end =
      std::numeric_limits<std::int64_t>::max();  // so many at most; grows where slots are evicted
  bool shares_context = false;                   // others begin with its context
  bool context_was_observed = false;
  bool awaits_basis = false;  // that is fitted to its context
  bool has_ended = false;

  [[nodiscard]] std::int64_t num_pending() const {
    return static_cast<std::int64_t>(tokens.size()) - num_computed;
  }
};

/// Tokens [begin, end) of one active sequence run in this step.
struct SequenceSlice {
  std::size_t active_idx;
  std::int64_t begin;
  std::int64_t end;
};

struct BatchPlan {
  std::vector<SequenceSlice> slices;
  std::int64_t num_tokens = 0;
  bool is_decode = false;  // one token a sequence
};

/// Every sequence with one pending token runs it; sequences with more share `chunk_tokens` in the
/// order of their arrival.
[[nodiscard]] BatchPlan plan_batch(const std::vector<ActiveSequence>& active,
                                   std::int64_t chunk_tokens);

/// The part of a plan that one rank computes: a lone token on its sequence's home rank, a longer
/// slice in equal parts over all ranks, earlier tokens on lower ranks. With `shared` it has the
/// rows of all ranks, and logits are still those of its own.
struct RankRows {
  StepRows rows;
  std::vector<std::int32_t> last_rows;      // of its own, whose logits choose a new token
  std::vector<std::size_t> last_sequences;  // and the active sequences they belong to
};
[[nodiscard]] RankRows rows_of_rank(const BatchPlan& plan,
                                    const std::vector<ActiveSequence>& active, int rank,
                                    int num_ranks, bool shared = false);

}  // namespace pikv
