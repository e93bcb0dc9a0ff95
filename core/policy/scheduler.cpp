// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/scheduler.hpp"

#include <algorithm>
#include <cmath>

namespace pikv {

std::int64_t KvBudget::of(std::int64_t n, std::int64_t num_tokens) const {
  if (n == 0) return 0;
  std::int64_t kept = n;
  if (fraction) {
    kept = static_cast<std::int64_t>(std::floor(static_cast<double>(num_tokens) * *fraction));
  }
  if (slots) kept = std::min(kept, *slots);
  return std::clamp<std::int64_t>(kept, 1, n);
}

void Scheduler::score_reread(Exec&, const LayerSlots&, const RereadChunk&,
                             std::span<std::vector<float>>) const {}

}  // namespace pikv
