// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/context_watch.hpp"

#include <algorithm>

namespace pikv::launch {
namespace {

// So many columns can be told apart on a screen, and so many rows show whether queries differ.
constexpr std::int64_t kMaxBins = 240;
constexpr std::int64_t kMaxRows = 8;

bool is_first(const ScheduledSequence& sequence) { return index(sequence.id) == 0; }

}  // namespace

void ContextWatch::on_computed(const ScheduledSequence& sequence) {
  if (!is_first(sequence)) return;
  context_.map =
      map_attention({.exec = runtime_.host(),
                     .model = runtime_.model(),
                     .cache = runtime_.cache(),
                     .tap = runtime_.tap(),
                     .comm = runtime_.comm()},
                    sequence.id, static_cast<Position>(sequence.num_computed),
                    {.num_queries = kNumQueries, .max_rows = kMaxRows, .max_bins = kMaxBins});
  context_.evicted.assign(context_.map.heads.size(), {});
}

void ContextWatch::on_scheduled(const ScheduledSequence& sequence) {
  if (!is_first(sequence)) return;
  const std::vector<HeadScores>& heads = runtime_.scheduling().last_scores().heads;
  for (std::size_t h = 0; h < context_.evicted.size(); ++h) {
    for (const std::int32_t slot : runtime_.scheduling().last_evicted()[h]) {
      context_.evicted[h].push_back(heads[h].positions[static_cast<std::size_t>(slot)]);
    }
    std::ranges::sort(context_.evicted[h]);
  }
}

}  // namespace pikv::launch
