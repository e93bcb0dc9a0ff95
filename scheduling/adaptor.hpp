// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler that is another one in all that it does not override.
#pragma once

#include "core/policy/scheduler.hpp"

namespace pikv::scheduling {

class Adaptor : public Scheduler {
 public:
  [[nodiscard]] const PageReader* page_reader() const override { return inner().page_reader(); }
  [[nodiscard]] bool evicts() const override { return inner().evicts(); }
  [[nodiscard]] SchedulerNeeds needs() const override { return inner().needs(); }
  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t num_context,
                                      const KvBudget& budget) const override {
    return inner().next_run(num_computed, num_context, budget);
  }
  void score_reread(Exec& exec, const LayerSlots& slots, const RereadChunk& chunk,
                    std::span<std::vector<float>> scores) const override {
    inner().score_reread(exec, slots, chunk, scores);
  }
  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    inner().score(exec, slots, scores);
  }
  void select(const SequenceScores& scores, const KvBudget& budget,
              std::span<std::vector<std::int32_t>> evict) const override {
    inner().select(scores, budget, evict);
  }
  [[nodiscard]] MergeNeeds merge_needs() const override { return inner().merge_needs(); }
  void merge(Exec& exec, const LayerMerge& layer,
             std::span<std::vector<ValueTerm>> terms) const override {
    inner().merge(exec, layer, terms);
  }
  void move(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
            std::span<std::vector<SlotMove>> moves) const override {
    inner().move(scores, evict, moves);
  }
  void adapt(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
             SequenceFeedback& feedback) const override {
    inner().adapt(scores, evict, feedback);
  }
  [[nodiscard]] std::optional<std::string> head_table() const override {
    return inner().head_table();
  }

 private:
  [[nodiscard]] virtual const Scheduler& inner() const = 0;
};

}  // namespace pikv::scheduling
