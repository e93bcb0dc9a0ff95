// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/makers.hpp"

namespace pikv::scheduling {
namespace {

class Full final : public Scheduler {
 public:
  [[nodiscard]] bool evicts() const override { return false; }
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] std::int64_t next_run(std::int64_t, std::int64_t, const KvBudget&) const override {
    return kNever;
  }
  void score(Exec&, const LayerSlots&, std::span<std::vector<float>>) const override {}

  void select(const SequenceScores&, const KvBudget&,
              std::span<std::vector<std::int32_t>> evict) const override {
    for (std::vector<std::int32_t>& head : evict) head.clear();
  }
};

}  // namespace

std::unique_ptr<const Scheduler> make_full(PolicyOptions options) {
  options.finish();
  return std::make_unique<Full>();
}

}  // namespace pikv::scheduling
