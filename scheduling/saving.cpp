// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/saving.hpp"

#include <utility>

namespace pikv::scheduling {
namespace {

class Saving final : public Scheduler {
 public:
  Saving(std::unique_ptr<const Scheduler> inner, std::string path)
      : inner_(std::move(inner)), path_(std::move(path)) {}

  [[nodiscard]] const PageReader* page_reader() const override { return inner_->page_reader(); }
  [[nodiscard]] bool evicts() const override { return inner_->evicts(); }
  [[nodiscard]] SchedulerNeeds needs() const override { return inner_->needs(); }
  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t num_context,
                                      const KvBudget& budget) const override {
    return inner_->next_run(num_computed, num_context, budget);
  }
  void score_reread(Exec& exec, const LayerSlots& slots, const RereadChunk& chunk,
                    std::span<std::vector<float>> scores) const override {
    inner_->score_reread(exec, slots, chunk, scores);
  }
  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    inner_->score(exec, slots, scores);
  }
  void select(const SequenceScores& scores, const KvBudget& budget,
              std::span<std::vector<std::int32_t>> evict) const override {
    inner_->select(scores, budget, evict);
  }
  void move(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
            std::span<std::vector<SlotMove>> moves) const override {
    inner_->move(scores, evict, moves);
  }
  void adapt(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
             SequenceFeedback& feedback) const override {
    inner_->adapt(scores, evict, feedback);
  }
  [[nodiscard]] std::optional<std::string> head_table() const override { return path_; }

 private:
  std::unique_ptr<const Scheduler> inner_;
  std::string path_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_saving(std::unique_ptr<const Scheduler> inner,
                                             std::string path) {
  return std::make_unique<Saving>(std::move(inner), std::move(path));
}

}  // namespace pikv::scheduling
