// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gather_slots.hpp"

#include <algorithm>
#include <cstring>

namespace pikv::kernels::cpu {
namespace {

// The account of a page is asked for so many runs early: pages lie anywhere in memory.
constexpr std::int64_t kRunsAhead = 8;

/// Most runs are whole pages: the compiler knows their size, or half of it.
template <class T>
void copy(const T* from, std::int32_t count, T* to) {
  constexpr std::int32_t kStep = 16;
  for (; count >= kStep; count -= kStep, from += kStep, to += kStep) {
    std::memcpy(to, from, kStep * sizeof(T));
  }
  std::copy_n(from, count, to);
}

void copy_keys(const PageLayout& layout, const SlotRun& run, float* to) {
  const auto* keys = reinterpret_cast<const float*>(run.page) + run.first_slot;
  const std::ptrdiff_t dim = layout.head_dim;
  for (std::int32_t slot = 0; slot < run.num_slots; ++slot) {
    for (std::ptrdiff_t d = 0; d < dim; ++d) *to++ = keys[d * layout.num_slots + slot];
  }
}

void copy_values(const PageLayout& layout, const SlotRun& run, float* to) {
  const auto* row = reinterpret_cast<const float*>(run.page + layout.value_offset()) +
                    static_cast<std::ptrdiff_t>(run.first_slot) * layout.value_stride();
  for (std::int32_t slot = 0; slot < run.num_slots; ++slot, row += layout.value_stride()) {
    to = std::copy_n(row, layout.head_dim, to);
  }
}

void copy_columns(const PageLayout& layout, const SlotRun& run, float* to) {
  const auto* columns =
      reinterpret_cast<const float*>(run.page + layout.columns_offset()) + run.first_slot;
  const std::int32_t count = layout.columns.count();
  if (count == 1) return copy(columns, run.num_slots, to);
  for (std::int32_t slot = 0; slot < run.num_slots; ++slot) {
    for (std::int32_t c = 0; c < count; ++c) *to++ = columns[c * layout.num_slots + slot];
  }
}

}  // namespace

void gather_slots(Exec& /*exec*/, const GatherSlotsArgs& args) {
  const std::int64_t num_runs = args.runs.size();
  for (std::int64_t i = 0; i < num_runs; ++i) {
    if (i + kRunsAhead < num_runs) {
      const SlotRun& ahead = args.runs.data[i + kRunsAhead];
      const PageLayout& layout = args.layouts.data[ahead.layout];
      __builtin_prefetch(ahead.page + layout.position_offset());
      __builtin_prefetch(ahead.page + layout.columns_offset());
    }
    const SlotRun& run = args.runs.data[i];
    const PageLayout& layout = args.layouts.data[run.layout];
    if (args.positions.size() > 0) {
      copy(reinterpret_cast<const std::int32_t*>(run.page + layout.position_offset()) +
               run.first_slot,
           run.num_slots, args.positions.data + run.first_row);
    }
    if (args.keys.size() > 0) copy_keys(layout, run, args.keys.row(run.first_row));
    if (args.values.size() > 0) copy_values(layout, run, args.values.row(run.first_row));
    if (args.columns.size() > 0) copy_columns(layout, run, args.columns.row(run.first_row));
  }
}

}  // namespace pikv::kernels::cpu
