// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Runs a scheduler over the cache of one sequence: gathers each layer on one rank, scores it there,
// shares the scores, selects on every rank alike and frees what is not kept.
//
// The layers are dealt out over the ranks, so each rank scores L / R of them. A pass moves the keys
// and values that the scheduler asks for once, and one float and one position a slot to every rank.
#pragma once

#include <cstdint>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/model/model_config.hpp"
#include "core/model/query_tap.hpp"
#include "core/model/weights.hpp"
#include "core/policy/scheduler.hpp"

namespace pikv {

/// All references must outlive the pass.
struct SchedulingParts {
  const ModelConfig& model;
  const ModelWeights& weights;
  KvCache& cache;
  QueryTap& tap;
  Communicator& comm;
  const Scheduler& scheduler;
  KvBudget budget;
};

/// Sums over passes; slots are those of all ranks.
struct SchedulingStats {
  std::int64_t num_passes = 0;
  std::int64_t num_kept = 0;
  std::int64_t num_evicted = 0;
  double seconds = 0;
};

class SchedulingPass {
 public:
  SchedulingPass(Exec& exec, const SchedulingParts& parts);

  /// A collective. `next`: the position that the sequence computes next.
  void run(SequenceId sequence, Position next);

  [[nodiscard]] const SchedulingStats& stats() const { return stats_; }
  /// What the last pass saw, for those who look into it: scores before selection.
  [[nodiscard]] const SequenceScores& last_scores() const { return scores_; }

 private:
  struct Head {
    std::vector<Position> positions;
    std::vector<float> keys;    // [n, D]
    std::vector<float> values;  // [n, D]
  };
  /// One layer of one sequence, gathered.
  struct Layer {
    std::vector<Head> heads;
    std::vector<Position> query_positions;
    std::vector<float> queries;
    std::vector<float> mean, covariance;
    std::int64_t moment_count = 0;
    std::vector<float> output_projection;
  };

  void pack(SequenceId sequence, LayerId layer, Position next, Message& message) const;
  [[nodiscard]] Layer unpack(LayerId layer);
  void unpack_head(std::vector<class MessageFields>& messages, Head& head) const;
  void score(SequenceId sequence, LayerId layer, Position next);
  void share(LayerId layer, bool scored);
  void apply(SequenceId sequence);

  Exec& exec_;
  SchedulingParts parts_;
  SchedulerNeeds needs_;
  std::vector<float> inverse_frequencies_;
  std::vector<Message> send_, received_;
  SequenceScores scores_;
  std::vector<std::vector<float>> layer_scores_;  // of the layer that this rank scored
  std::vector<std::vector<Position>> layer_positions_;
  SchedulingStats stats_;
};

}  // namespace pikv
