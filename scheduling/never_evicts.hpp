// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler that keeps every slot.
#pragma once

#include "core/policy/scheduler.hpp"

namespace pikv::scheduling {

class NeverEvicts : public Scheduler {
 public:
  [[nodiscard]] bool evicts() const final { return false; }
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] std::int64_t next_run(std::int64_t, std::int64_t, const KvBudget&) const final {
    return kNever;
  }
  void score(Exec&, const LayerSlots&, std::span<std::vector<float>>) const final {}

  void select(const SequenceScores&, const KvBudget&,
              std::span<std::vector<std::int32_t>> evict) const final {
    for (std::vector<std::int32_t>& head : evict) head.clear();
  }
};

}  // namespace pikv::scheduling
