// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What slots are worth to those who read a sequence again: the largest of the scores that they get
// for each chunk. Each layer is scored on the rank that scores it later, so nothing is sent but
// what the scheduler looks at.
#pragma once

#include <span>
#include <vector>

#include "core/eviction/slot_gather.hpp"
#include "core/policy/scheduler.hpp"

namespace pikv {

class RereadScores {
 public:
  /// All references must outlive this object.
  RereadScores(Exec& exec, const ModelConfig& model, const KvCache& cache, const AttentionTap& tap,
               Communicator& comm);

  /// A collective: see SchedulingPass::score_reread.
  void add(const Scheduler& scheduler, SequenceId copy, const RereadChunk& chunk, Position next);

  /// Of slots of one head of a layer of this rank, 0 where there was none; empty when nothing was
  /// added since clear().
  [[nodiscard]] std::vector<float> scores_of(LayerId layer, std::size_t kv_head,
                                             std::span<const Position> positions) const;
  void clear();

 private:
  void add_layer(const Scheduler& scheduler, const RereadChunk& chunk, Position next,
                 SlotGather::Layer& layer);

  Exec& exec_;
  const ModelConfig& model_;
  const KvCache& cache_;
  SlotGather gather_;
  std::vector<float> inverse_frequencies_;
  bool has_scores_ = false;
  std::vector<std::vector<float>> by_position_;  // [L, Hkv] of [positions]; of this rank's layers
};

}  // namespace pikv
