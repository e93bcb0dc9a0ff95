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
           std::unique_ptr<const Selector> selector, const Protection& protection,
           std::int64_t smoothing, const Trigger& trigger)
      : scorer_(std::move(scorer)),
        allocator_(std::move(allocator)),
        selector_(std::move(selector)),
        protection_(protection),
        smoothing_(smoothing),
        trigger_(trigger) {}

  [[nodiscard]] bool evicts() const override { return true; }
  [[nodiscard]] SchedulerNeeds needs() const override { return scorer_->needs(); }

  [[nodiscard]] bool is_due(const ScheduleMoment& moment) const override {
    const std::int64_t decoded = moment.num_computed - moment.num_context;
    if (decoded < 0) return trigger_.at_each_chunk;
    if (decoded == 0) return trigger_.at_end_of_context;
    return trigger_.every_decode_steps > 0 && decoded % trigger_.every_decode_steps == 0;
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    scorer_->score(exec, slots, scores);
    for (std::vector<float>& head : scores) smooth(head, smoothing_);
  }

  void select(const SequenceScores& scores, const KvBudget& budget,
              std::span<std::vector<std::int32_t>> keep) const override {
    std::vector<std::int64_t> counts(scores.heads.size());
    allocator_->allocate(scores, budget, protection_, counts);
    selector_->select(scores, protection_, counts, keep);
  }

 private:
  std::unique_ptr<const Scorer> scorer_;
  std::unique_ptr<const Allocator> allocator_;
  std::unique_ptr<const Selector> selector_;
  Protection protection_;
  std::int64_t smoothing_;
  Trigger trigger_;
};

}  // namespace

std::unique_ptr<const Scheduler> compose(std::unique_ptr<const Scorer> scorer,
                                         std::unique_ptr<const Allocator> allocator,
                                         PolicyOptions& options,
                                         std::unique_ptr<const Selector> selector) {
  constexpr std::array<std::string_view, 4> kMoments = {"prefill", "chunks", "decode", "both"};
  Protection protection = scorer->protection();
  protection.sinks =
      std::max(protection.sinks, options.integer("keep_first", 0, 0, std::int64_t{1} << 31));
  protection.recents =
      std::max(protection.recents, options.integer("keep_last", 0, 0, std::int64_t{1} << 31));
  const std::int64_t smoothing = options.integer("smooth", 1, 1, 1 << 20);
  require(smoothing % 2 == 1, "scheduler", "smooth = ", smoothing, " is not odd");
  const std::string when = options.choice("when", "prefill", kMoments);
  const std::int64_t every = options.integer("every", 64, 1, std::int64_t{1} << 31);
  options.finish();
  return std::make_unique<Composed>(
      std::move(scorer), std::move(allocator), std::move(selector), protection, smoothing,
      Trigger{.at_each_chunk = when == "chunks",
              .at_end_of_context = when != "decode",
              .every_decode_steps = when == "decode" || when == "both" ? every : 0});
}

}  // namespace pikv::scheduling
