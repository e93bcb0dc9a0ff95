// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/composed.hpp"

#include <algorithm>
#include <array>

#include "kernels/common/error.hpp"
#include "scheduling/smoothing.hpp"

namespace pikv::scheduling {
namespace {

class Composed final : public Scheduler {
 public:
  Composed(std::unique_ptr<const Scorer> scorer, std::unique_ptr<const Allocator> allocator,
           std::unique_ptr<const Selector> selector, const Protection& extra,
           std::int64_t smoothing, const Trigger& trigger)
      : scorer_(std::move(scorer)),
        allocator_(std::move(allocator)),
        selector_(std::move(selector)),
        extra_(extra),
        smoothing_(smoothing),
        trigger_(trigger) {}

  [[nodiscard]] bool evicts() const override { return true; }
  [[nodiscard]] SchedulerNeeds needs() const override {
    SchedulerNeeds needs = scorer_->needs();
    needs.in_order = needs.in_order || smoothing_ > 1;
    return needs;
  }

  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t num_context,
                                      const KvBudget&) const override {
    return trigger_.next_run(num_computed, num_context);
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    scorer_->score(exec, slots, scores);
    for (std::vector<float>& head : scores) smooth(head, smoothing_);
  }

  void score_reread(Exec& exec, const LayerSlots& slots, const RereadChunk& chunk,
                    std::span<std::vector<float>> scores) const override {
    scorer_->score_reread(exec, slots, chunk, scores);
  }

  void select(const SequenceScores& scores, const KvBudget& budget,
              std::span<std::vector<std::int32_t>> evict) const override {
    std::vector<std::int64_t> counts(scores.heads.size());
    const std::int64_t num_tokens = scores.next_position;
    const Protection protection =
        scorer_->protection(budget.of(num_tokens, num_tokens)).joined(extra_);
    allocator_->allocate(scores, budget, protection, counts);
    selector_->select(scores, protection, counts, evict);
  }

 private:
  std::unique_ptr<const Scorer> scorer_;
  std::unique_ptr<const Allocator> allocator_;
  std::unique_ptr<const Selector> selector_;
  Protection extra_;  // beyond what the scorer protects
  std::int64_t smoothing_;
  Trigger trigger_;
};

}  // namespace

std::int64_t Trigger::next_run(std::int64_t num_computed, std::int64_t num_context) const {
  std::int64_t next = Scheduler::kNever;
  if (num_computed < num_context) {
    if (at_end_of_context) next = num_context;
    if (stride > 0) {
      const std::int64_t inside = (num_computed / stride + 1) * stride;
      if (inside < num_context) next = std::min(next, inside);
    }
  }
  if (every_decode_steps > 0) {
    const std::int64_t decoded = std::max<std::int64_t>(num_computed - num_context, 0);
    next = std::min(next, num_context + (decoded / every_decode_steps + 1) * every_decode_steps);
  }
  return next;
}

std::unique_ptr<const Scheduler> compose(std::unique_ptr<const Scorer> scorer,
                                         std::unique_ptr<const Allocator> allocator,
                                         PolicyOptions& options,
                                         std::unique_ptr<const Selector> selector,
                                         const DefaultTrigger& trigger) {
  constexpr std::array<std::string_view, 5> kMoments = {"prefill", "stride", "decode", "both",
                                                        "always"};
  const Protection extra{.sinks = options.integer("keep_first", 0, 0, std::int64_t{1} << 31),
                         .recents = options.integer("keep_last", 0, 0, std::int64_t{1} << 31)};
  const std::int64_t smoothing = options.integer("smooth", 1, 1, 1 << 20);
  require(smoothing % 2 == 1, "scheduler", "smooth = ", smoothing, " is not odd");
  const std::string when = options.choice("when", trigger.when, kMoments);
  const std::int64_t every = options.integer("every", trigger.every, 1, std::int64_t{1} << 31);
  const std::int64_t stride = options.integer("stride", 512, 1, std::int64_t{1} << 31);
  options.finish();
  return std::make_unique<Composed>(
      std::move(scorer), std::move(allocator), std::move(selector), extra, smoothing,
      Trigger{.stride = when == "stride" || when == "always" ? stride : 0,
              .at_end_of_context = when != "decode",
              .every_decode_steps =
                  when == "decode" || when == "both" || when == "always" ? every : 0});
}

}  // namespace pikv::scheduling
