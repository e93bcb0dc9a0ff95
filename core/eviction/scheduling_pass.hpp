// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Runs a scheduler over the cache of one sequence: gathers each layer on one rank, scores it there,
// shares the scores, selects on every rank alike, merges values, frees what goes and turns what
// moves.
//
// Each rank scores L / R of the layers. A pass moves what the scheduler asks for of the slots once,
// and one float and one position a slot to every rank.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/eviction/eviction_record.hpp"
#include "core/eviction/merge_pass.hpp"
#include "core/eviction/reread_scores.hpp"
#include "core/eviction/slot_gather.hpp"
#include "core/model/attention_tap.hpp"
#include "core/model/model_config.hpp"
#include "core/model/weights.hpp"
#include "core/policy/scheduler.hpp"

namespace pikv {

/// All references must outlive the pass.
struct SchedulingParts {
  const ModelConfig& model;
  const ModelWeights& weights;
  KvCache& cache;
  AttentionTap& tap;
  Communicator& comm;
  const Scheduler& scheduler;
  KvBudget budget;
  SchedulerNeeds recorded;  // what cache and tap keep: at least what the scheduler needs
};

/// A sequence whose cache is to be scheduled.
struct ScheduledSequence {
  SequenceId id;
  std::int64_t num_computed;  // tokens that it has seen
  std::int64_t num_context;
};

/// Sums over passes; slots are those of all ranks.
struct SchedulingStats {
  std::int64_t num_passes = 0;
  std::int64_t num_kept = 0;
  std::int64_t num_evicted = 0;
  std::int64_t num_merged = 0;  // of these, whose value others took over in part
  double seconds = 0;
};

class SchedulingPass {
 public:
  SchedulingPass(Exec& exec, const SchedulingParts& parts);

  /// A collective. `num_sequences`: those in the cache, which share a budget of bytes.
  void run(const ScheduledSequence& sequence, std::int64_t num_sequences);

  /// A collective, for each chunk of a sequence that the scheduler wants read again, before run().
  /// `copy` has read it and computes `next` next.
  void score_reread(SequenceId copy, const RereadChunk& chunk, Position next);

  /// Keeps account of what leaves the caches of sequences from now on.
  void record_evictions(bool record) { records_evictions_ = record; }
  /// Of a sequence; empty when nothing was recorded.
  [[nodiscard]] EvictionRecord evictions(SequenceId sequence) const;

  /// What the last run over a sequence left to the next.
  [[nodiscard]] SequenceFeedback feedback(SequenceId sequence) const;

  /// `to` becomes a new sequence of which the same is known.
  void fork(SequenceId from, SequenceId to);
  void forget(SequenceId sequence);

  [[nodiscard]] const Scheduler& scheduler() const { return *scheduler_; }
  /// Bytes turned into slots, for so many sequences in the cache.
  [[nodiscard]] KvBudget budget_of(std::int64_t num_sequences) const;
  /// Schedules otherwise from now on; pages, columns and statistics stay, feedback is forgotten.
  /// Throws InvalidArgument for a scheduler that needs what is not recorded. `scheduler` must
  /// outlive the pass.
  void switch_to(const Scheduler& scheduler, const KvBudget& budget);

  [[nodiscard]] std::int64_t num_switches() const { return num_switches_; }

  [[nodiscard]] const SchedulingStats& stats() const { return stats_; }
  /// What the last pass saw, for those who look into it: scores before selection.
  [[nodiscard]] const SequenceScores& last_scores() const { return scores_; }
  /// [L, Hkv], the largest score of each head over all passes, for schedulers that save a table of
  /// heads (Scheduler::head_table); 0 where it never had a slot.
  [[nodiscard]] const std::vector<float>& largest_scores() const { return largest_scores_; }
  /// [L, Hkv], what it evicted: ascending subscripts into those slots.
  [[nodiscard]] const std::vector<std::vector<std::int32_t>>& last_evicted() const {
    return evict_;
  }
  /// Slots that it left in the longest head, those of all ranks together.
  [[nodiscard]] std::int64_t longest_head() const;

 private:
  /// A layer that this rank scored.
  struct Scored {
    LayerId layer;
    std::vector<std::vector<std::int64_t>> counts;  // [Hkv, R]
    std::vector<HeadScores> heads;                  // [Hkv]
  };

  /// What is known of a sequence from its earlier runs.
  struct Memory {
    SequenceFeedback feedback;
    EvictionRecord evictions;
  };

  void score(SlotGather::Layer& layer, const KvBudget& budget, Scored& scored);
  void check(const Scored& scored) const;
  void share(std::size_t num_mine, std::int64_t first, std::int64_t last);
  void take(Scored& scored);
  void note_largest_scores();
  void apply(const KvBudget& budget);
  void evict();
  void put_in_tiers();
  void move();

  Exec& exec_;
  SchedulingParts parts_;
  const Scheduler* scheduler_ = nullptr;
  KvBudget budget_;
  SchedulerNeeds needs_;
  std::int64_t num_switches_ = 0;
  SlotGather gather_;
  MergePass merge_;
  RereadScores reread_;
  std::vector<float> inverse_frequencies_;
  std::vector<std::vector<float>> projections_;  // [L], output projections by head, as needed
  std::vector<Message> send_, received_;
  std::vector<Scored> scored_;  // of the round
  std::vector<std::vector<float>> layer_scores_;
  SequenceScores scores_;
  std::vector<std::vector<std::int64_t>> counts_;  // [L, Hkv] of [R], slots of each rank
  std::vector<std::vector<std::int32_t>> evict_;
  std::vector<std::vector<SlotMove>> moves_;  // [L, Hkv]
  std::vector<float> largest_scores_;         // [L, Hkv]
  bool records_evictions_ = false;
  std::unordered_map<SequenceId, Memory> memories_;
  SchedulingStats stats_;
};

}  // namespace pikv
