// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler decides which slots of the cache are evicted, and when.
//
// It works in two halves. score() sees one layer of one sequence whole, on one rank, in the order
// of positions, however the slots are sharded. select() sees the scores of all layers, on every
// rank, and must decide the same everywhere; each rank then frees what it holds of the rest. So a
// set of kept slots does not depend on the number of ranks.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/ids.hpp"
#include "kernels/common/attention_columns.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// A second reading of what a sequence has seen (Kim et al. 2025, 2505.23416): chunk by chunk, a
/// copy of the sequence reads the chunk after all it holds and is dropped again. So slots can be
/// judged by what is needed of them to repeat the text, whatever is asked later.
struct Rereading {
  std::int64_t chunk_tokens = 0;    // 0: nothing is read again
  std::int64_t overlap_tokens = 0;  // of the chunk before, read once more in front of a chunk
  std::string prompt = {};          // text in front of these

  [[nodiscard]] bool is_wanted() const { return chunk_tokens > 0; }
  [[nodiscard]] bool operator==(const Rereading&) const = default;
};

/// Positions [begin, end), read again at `first_row` and later.
struct RereadChunk {
  Position begin;
  Position end;
  Position first_row;
};

/// What scoring reads besides positions. What is not asked for is neither collected nor moved.
struct SchedulerNeeds {
  std::int64_t query_rows = 0;  // queries of so many of the newest positions
  bool query_moments = false;
  bool key_moments = false;
  AttentionColumns columns = {};  // kept by the slots all the time, at a cost in every step
  float column_decay = 0;         // of the decayed ones, in [0, 1)
  bool key_bounds = false;        // kept by the pages all the time, for a page reader
  bool keys = false;
  bool values = false;
  bool output_projection = false;
  bool in_order = true;  // slots of a head ascend in position; sorting them costs time
  Rereading reread = {};

  /// What either asks for. Throws InvalidArgument where both want decayed columns, of other decays,
  /// or want things read again, after other prompts.
  [[nodiscard]] SchedulerNeeds joined(const SchedulerNeeds& other) const;
  /// Whether what is kept for these all the time, queries, moments and columns, serves `other` too.
  [[nodiscard]] bool record_enough_for(const SchedulerNeeds& other) const;
};

/// How much is kept: a fraction of the tokens that the sequence has seen, a count of slots of each
/// KV head, or bytes of pages on each rank, shared by its sequences.
struct KvBudget {
  std::optional<double> fraction = {};
  std::optional<std::int64_t> slots = {};
  std::optional<std::uint64_t> bytes = {};  // turned into slots before a scheduler sees it

  /// For a head of n slots, after `num_tokens` tokens: at least 1 where there is one, at most n.
  [[nodiscard]] std::int64_t of(std::int64_t n, std::int64_t num_tokens) const;
  /// So many times the fraction, at most 1, or the slots, rounded, at least 1. Of no bytes.
  [[nodiscard]] KvBudget scaled(double factor) const;
};

/// Mean and covariance of the queries of one layer before RoPE, over all positions from
/// `kFirstMomentPosition` on.
struct QueryMoments {
  std::int64_t count = 0;
  View<const float, 2> mean;        // [H, D]
  View<const float, 3> covariance;  // [H, D, D], divided by the count
};
inline constexpr Position kFirstMomentPosition = 4;

/// Keys of one KV head before RoPE, over all positions, those of evicted slots among them.
struct KeyMoments {
  std::int64_t count = 0;
  std::span<const float> mean = {};  // [D]
  float mean_square_deviation = 0;   // of a key from the mean
};

/// The slots of one KV head, over all shards.
struct HeadSlots {
  std::span<const Position> positions;           // [n]
  View<const float, 2> keys;                     // [n, D], after RoPE
  View<const float, 2> values;                   // [n, D]
  View<const float, 2> columns = {};             // [n, C], see LayerSlots::columns
  std::span<const double> evicted_columns = {};  // [C], sums over the slots that were evicted
  KeyMoments key_moments = {};                   // where asked for
  std::span<const float> reread_scores = {};     // [n], where asked for, see score_reread
};

/// One layer of one sequence. Heads may have different lengths.
struct LayerSlots {
  SequenceId sequence;
  LayerId layer;
  Position next_position;                           // of the sequence: the tokens that it has seen
  std::int64_t num_context;                         // see Scheduler::next_run
  std::span<const HeadSlots> heads;                 // [Hkv]
  KvBudget budget;                                  // for methods that choose in stages
  std::span<const float> inverse_frequencies = {};  // [D / 2], radians a position
  // Where asked for:
  AttentionColumns columns = {};                   // which are there
  View<const float, 3> queries = {};               // [w, H, D] after RoPE, the newest last
  std::span<const Position> query_positions = {};  // [w]
  QueryMoments moments = {};
  View<const float, 3> output_projection = {};  // [H, hidden, D]
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
  std::int64_t num_context;
  std::int64_t num_kv_heads;
  std::vector<HeadScores> heads;  // [L, Hkv], the slots in any order
};

/// What the runs of a scheduler leave to the next run over the same sequence. It belongs to the
/// sequence: a copy has a copy, and it is forgotten with the cache.
struct SequenceFeedback {
  double budget_factor = 1;  // by which the user's budget is multiplied, see KvBudget::scaled
};

class PageReader;  // core/policy/page_reader.hpp

/// A slot of a head, and the position that its key is turned to.
struct SlotMove {
  std::int32_t slot;
  Position position;
};

/// What merge() reads besides positions and scores.
struct MergeNeeds {
  bool merges = false;  // false: merge() is not called
  bool keys = false;    // of all slots, which then move to one rank a layer, as they do for score()
  bool values = false;  // likewise
};

/// One layer of one sequence when it is known what goes.
struct LayerMerge {
  SequenceId sequence;
  LayerId layer;
  Position next_position;
  std::int64_t num_context;                          // see Scheduler::next_run
  std::span<const HeadScores> heads;                 // [Hkv]
  std::span<const std::vector<std::int32_t>> evict;  // [Hkv], as select() gave it
  // Where asked for, a row a slot of heads[h]:
  std::span<const View<const float, 2>> keys = {};    // [Hkv] of [n, D], after RoPE
  std::span<const View<const float, 2>> values = {};  // [Hkv] of [n, D]
};

/// A part of what the value of a slot becomes: a weight times the value of a slot that goes, or of
/// its own.
struct ValueTerm {
  std::int32_t to;    // a slot that stays
  std::int32_t from;  // one that goes, or `to` itself
  float weight;
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  /// What decides how much of the cache a step reads, part of the scheduler; null: it reads
  /// everything. One with a page reader needs key_bounds.
  [[nodiscard]] virtual const PageReader* page_reader() const { return nullptr; }

  /// False when the scheduler never evicts: nothing below is then called.
  [[nodiscard]] virtual bool evicts() const = 0;

  [[nodiscard]] virtual SchedulerNeeds needs() const = 0;

  /// After how many tokens of a sequence the scheduler runs next, more than `num_computed`; a step
  /// ends there. The context is what is to be compressed: the prompt, or its part before a
  /// question. The same on every rank.
  [[nodiscard]] virtual std::int64_t next_run(std::int64_t num_computed, std::int64_t num_context,
                                              const KvBudget& budget) const = 0;
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  /// Called for each chunk that was read again, before score(): what the slots of the chunk are
  /// worth to those who read it, scores[h][i] of slot i of head h, all of them 0 before. `slots`
  /// are those of the copy, its keys and the queries of what it read among them. score() then sees
  /// the largest that a slot got, or 0.
  virtual void score_reread(Exec& exec, const LayerSlots& slots, const RereadChunk& chunk,
                            std::span<std::vector<float>> scores) const;

  /// One score a slot: scores[h] has as many as slots.heads[h].
  virtual void score(Exec& exec, const LayerSlots& slots,
                     std::span<std::vector<float>> scores) const = 0;

  /// evict[l * Hkv + h] gets ascending subscripts into the head's slots. A function of its
  /// arguments, and of the set of slots, not of their order.
  virtual void select(const SequenceScores& scores, const KvBudget& budget,
                      std::span<std::vector<std::int32_t>> evict) const = 0;

  [[nodiscard]] virtual MergeNeeds merge_needs() const { return {}; }

  /// Slots that go may leave a part of their values to slots that stay; of keys, which RoPE has
  /// turned each by its own position, no sum means anything. terms[h] gets what the values of
  /// slots of head h become: the sum of the terms, and of the value itself where no term says with
  /// what weight. All of it is about the values of before. Terms come in any order, each (to, from)
  /// once. A function of its arguments, and of the set of slots, not of their order: every rank
  /// calls it for every layer of which a slot goes, or one a layer where keys or values are asked
  /// for.
  virtual void merge(Exec& exec, const LayerMerge& layer,
                     std::span<std::vector<ValueTerm>> terms) const;

  /// moves[l * Hkv + h] gets slots that stay and where they go, to positions of no other slot that
  /// stays and below the next one. Their keys are turned as if they had been computed there, and
  /// later runs see them there. Such a function as select(); nothing moves unless it is overridden.
  virtual void move(const SequenceScores& /*scores*/,
                    std::span<const std::vector<std::int32_t>> /*evict*/,
                    std::span<std::vector<SlotMove>> /*moves*/) const {}

  /// Called after select(): what the next run over the sequence is to know. Its score() and
  /// select() get the user's budget times the factor; next_run() always gets the user's. Such a
  /// function as select(); nothing changes unless it is overridden.
  virtual void adapt(const SequenceScores& /*scores*/,
                     std::span<const std::vector<std::int32_t>> /*evict*/,
                     SequenceFeedback& /*feedback*/) const {}

  /// A file that is to get the largest score of each head, over all that was scheduled.
  [[nodiscard]] virtual std::optional<std::string> head_table() const { return std::nullopt; }
};

}  // namespace pikv
