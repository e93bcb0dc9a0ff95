// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "scheduling/makers.hpp"

namespace pikv::scheduling {
namespace {

class Full final : public Scheduler {
 public:
  [[nodiscard]] bool evicts() const override { return false; }
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] bool is_due(const ScheduleMoment&) const override { return false; }
  void score(Exec&, const LayerSlots&, std::span<std::vector<float>>) const override {}

  void select(const SequenceScores& scores, const KvBudget&,
              std::span<std::vector<std::int32_t>> keep) const override {
    for (std::size_t i = 0; i < keep.size(); ++i) {
      keep[i].resize(scores.heads[i].positions.size());
      std::iota(keep[i].begin(), keep[i].end(), 0);
    }
  }
};

}  // namespace

std::unique_ptr<const Scheduler> make_full(PolicyOptions options) {
  options.finish();
  return std::make_unique<Full>();
}

}  // namespace pikv::scheduling
