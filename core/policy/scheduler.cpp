// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/scheduler.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

bool has_decay(const SchedulerNeeds& needs) { return needs.columns.has(AttentionColumn::kDecayed); }

}  // namespace

SchedulerNeeds SchedulerNeeds::joined(const SchedulerNeeds& other) const {
  require(!has_decay(*this) || !has_decay(other) || column_decay == other.column_decay, "scheduler",
          "attention that decays by ", column_decay, " and by ", other.column_decay,
          " cannot both be recorded");
  require(!reread.is_wanted() || !other.reread.is_wanted() || reread.prompt == other.reread.prompt,
          "scheduler", "texts that are read again after '", reread.prompt, "' and after '",
          other.reread.prompt, "' do not go together");
  return {.query_rows = std::max(query_rows, other.query_rows),
          .query_moments = query_moments || other.query_moments,
          .key_moments = key_moments || other.key_moments,
          .columns = columns | other.columns,
          .column_decay = has_decay(*this) ? column_decay : other.column_decay,
          .key_bounds = key_bounds || other.key_bounds,
          .keys = keys || other.keys,
          .values = values || other.values,
          .output_projection = output_projection || other.output_projection,
          .in_order = in_order || other.in_order,
          .reread = reread.is_wanted() ? reread : other.reread};
}

bool SchedulerNeeds::record_enough_for(const SchedulerNeeds& other) const {
  return other.query_rows <= query_rows && (!other.query_moments || query_moments) &&
         (!other.key_moments || key_moments) && (!other.key_bounds || key_bounds) &&
         columns.has_all(other.columns) &&
         (!other.reread.is_wanted() || other.reread.prompt == reread.prompt) &&
         (!has_decay(other) || other.column_decay == column_decay);
}

std::int64_t KvBudget::of(std::int64_t n, std::int64_t num_tokens) const {
  if (n == 0) return 0;
  std::int64_t kept = n;
  if (fraction) {
    kept = static_cast<std::int64_t>(std::floor(static_cast<double>(num_tokens) * *fraction));
  }
  if (slots) kept = std::min(kept, *slots);
  return std::clamp<std::int64_t>(kept, 1, n);
}

KvBudget KvBudget::scaled(double factor) const {
  ensure(!bytes, "bytes are slots before a budget is scaled");
  KvBudget result = *this;
  if (fraction) result.fraction = std::min(1.0, *fraction * factor);
  if (slots) {
    // A budget that says "all" may be as large as the type: it stays within it.
    const double count = std::min(static_cast<double>(*slots) * factor, 0x1p62);
    result.slots = std::max<std::int64_t>(1, std::llround(count));
  }
  return result;
}

void Scheduler::score_reread(Exec&, const LayerSlots&, const RereadChunk&,
                             std::span<std::vector<float>>) const {}

void Scheduler::merge(Exec&, const LayerMerge&, std::span<std::vector<ValueTerm>>) const {}

}  // namespace pikv
