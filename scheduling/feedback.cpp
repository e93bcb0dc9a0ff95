// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/feedback.hpp"

#include <algorithm>
#include <utility>

#include "kernels/common/error.hpp"

namespace pikv::scheduling {
namespace {

/// The sum, the same in whatever order the scores come.
double sum_of(std::vector<float>& scores) {
  std::ranges::sort(scores);
  double sum = 0;
  for (const float score : scores) sum += static_cast<double>(score);
  return sum;
}

class WithFeedback final : public Scheduler {
 public:
  WithFeedback(std::unique_ptr<const Scheduler> inner, const Feedback& feedback)
      : inner_(std::move(inner)), feedback_(feedback) {}

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
  [[nodiscard]] std::optional<std::string> head_table() const override {
    return inner_->head_table();
  }

  void adapt(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
             SequenceFeedback& memory) const override {
    std::vector<float> all;
    std::vector<float> gone;
    for (std::size_t h = 0; h < scores.heads.size(); ++h) {
      const std::vector<float>& head = scores.heads[h].scores;
      all.insert(all.end(), head.begin(), head.end());
      for (const std::int32_t i : evict[h]) gone.push_back(head[static_cast<std::size_t>(i)]);
    }
    const double whole = sum_of(all);
    require(all.empty() || all.front() >= 0, "scheduler",
            "a target is a share of scores that are not negative, and one is ", all.front());
    if (whole == 0) return;  // nothing to have a share of
    const double eta = 1 - sum_of(gone) / whole;
    memory.budget_factor =
        std::clamp(memory.budget_factor + feedback_.gain * (feedback_.target - eta),
                   feedback_.least, feedback_.most);
  }

 private:
  std::unique_ptr<const Scheduler> inner_;
  Feedback feedback_;
};

/// Whether a sequence of any length is scheduled at the end of its context and never again.
bool runs_once(const Scheduler& scheduler) {
  constexpr std::int64_t kLong = std::int64_t{1} << 40;
  return scheduler.next_run(0, kLong, {}) == kLong &&
         scheduler.next_run(kLong, kLong, {}) == Scheduler::kNever;
}

}  // namespace

std::unique_ptr<const Scheduler> make_feedback(std::unique_ptr<const Scheduler> inner,
                                               const Feedback& feedback) {
  require(feedback.least <= 1 && feedback.most >= 1, "scheduler", "a budget factor in [",
          feedback.least, ", ", feedback.most, "] cannot start at 1");
  require(!runs_once(*inner), "scheduler",
          "a target changes the next run of a sequence, and with when=prefill there is none");
  return std::make_unique<WithFeedback>(std::move(inner), feedback);
}

}  // namespace pikv::scheduling
