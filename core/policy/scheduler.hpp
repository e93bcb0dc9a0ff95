// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler decides which slots of the cache are kept.
//
// It works in two halves. score() sees one layer of one sequence whole, on one rank, in the order
// of positions, however the slots are sharded. select() sees the scores of all layers, on every
// rank, and must decide the same everywhere; each rank then frees what it holds of the rest. So a
// set of kept slots does not depend on the number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/ids.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// What scoring reads besides positions. What is not asked for is neither collected nor moved.
struct SchedulerNeeds {
  std::int64_t query_rows = 0;  // queries of so many of the newest positions
  bool query_moments = false;
  bool keys = false;
  bool values = false;
  bool output_projection = false;
};

/// How much is kept of each KV head: a fraction of its slots, or a count of them.
struct KvBudget {
  std::optional<double> fraction;
  std::optional<std::int64_t> slots;

  /// For a head of n slots: at least 1 where there is one, at most n.
  [[nodiscard]] std::int64_t of(std::int64_t n) const;
};

/// Mean and covariance of the queries of one layer before RoPE, over all positions from
/// `kFirstMomentPosition` on.
struct QueryMoments {
  std::int64_t count = 0;
  View<const float, 2> mean;        // [H, D]
  View<const float, 3> covariance;  // [H, D, D], divided by the count
};
inline constexpr Position kFirstMomentPosition = 4;

/// The slots of one KV head, over all shards, ascending in position.
struct HeadSlots {
  std::span<const Position> positions;  // [n]
  View<const float, 2> keys;            // [n, D], after RoPE
  View<const float, 2> values;          // [n, D]
};

/// One layer of one sequence. Heads may have different lengths.
struct LayerSlots {
  SequenceId sequence;
  LayerId layer;
  Position next_position;                      // of the sequence
  std::span<const HeadSlots> heads;            // [Hkv]
  View<const float, 3> queries;                // [w, H, D] after RoPE, the newest last
  std::span<const Position> query_positions;   // [w]
  QueryMoments moments;                        // where asked for
  std::span<const float> inverse_frequencies;  // [D / 2], radians a position
  View<const float, 3> output_projection;      // [H, hidden, D], where asked for
  KvBudget budget;                             // for methods that choose in stages
};

/// Scores of the slots of one KV head; higher is kept.
struct HeadScores {
  std::vector<Position> positions;
  std::vector<float> scores;
};

/// Of one sequence.
struct SequenceScores {
  SequenceId sequence;
  Position next_position;
  std::int64_t num_kv_heads;
  std::vector<HeadScores> heads;  // [L, Hkv]
};

/// Where a sequence stands after a step. Its context is what is to be compressed; a step always ends
/// with it.
struct ScheduleMoment {
  std::int64_t num_computed;  // tokens in the cache, evicted ones included
  std::int64_t num_context;
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  /// False when the scheduler never evicts: nothing below is then called.
  [[nodiscard]] virtual bool evicts() const = 0;

  [[nodiscard]] virtual SchedulerNeeds needs() const = 0;

  /// Whether the cache of a sequence is scheduled now; asked after every step of it. The same on
  /// every rank.
  [[nodiscard]] virtual bool is_due(const ScheduleMoment& moment) const = 0;

  /// One score a slot: scores[h] has as many as slots.heads[h].
  virtual void score(Exec& exec, const LayerSlots& slots,
                     std::span<std::vector<float>> scores) const = 0;

  /// keep[l * Hkv + h]: ascending subscripts into the head's slots. A function of its arguments.
  virtual void select(const SequenceScores& scores, const KvBudget& budget,
                      std::span<std::vector<std::int32_t>> keep) const = 0;
};

}  // namespace pikv
