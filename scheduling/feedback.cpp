// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/feedback.hpp"

#include <algorithm>
#include <utility>

#include "kernels/common/error.hpp"
#include "scheduling/adaptor.hpp"

namespace pikv::scheduling {
namespace {

/// The sum, the same in whatever order the scores come.
double sum_of(std::vector<float>& scores) {
  std::ranges::sort(scores);
  double sum = 0;
  for (const float score : scores) sum += static_cast<double>(score);
  return sum;
}

class WithFeedback final : public Adaptor {
 public:
  WithFeedback(std::unique_ptr<const Scheduler> inner, const Feedback& feedback)
      : inner_(std::move(inner)), feedback_(feedback) {}

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
  [[nodiscard]] const Scheduler& inner() const override { return *inner_; }

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
