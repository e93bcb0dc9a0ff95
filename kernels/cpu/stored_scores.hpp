// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores that attention stores for single rows (AttentionSegment::scores), and the account that is
// kept from them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention_columns.hpp"
#include "kernels/cpu/stream_pages.hpp"

namespace pikv::kernels::cpu {

/// Where the scores of a KV head begin: after those of the heads before it.
inline float* scores_of_head(const View<const StreamView, 1>& streams,
                             const AttentionSegment& segment, std::int64_t kv_head,
                             std::int64_t floats_per_page) {
  float* scores = segment.scores;
  for (std::int64_t h = 0; h < kv_head; ++h) {
    scores += num_pages_of(streams_of(streams, segment, h)) * floats_per_page;
  }
  return scores;
}

/// Pages [page_begin, page_end) of a KV head, counted over its streams.
struct HeadPages {
  const AttentionSegment* segment;
  std::int64_t kv_head;
  std::int64_t page_begin;
  std::int64_t page_end;
};

/// Does for these pages what attention_columns does, on the calling thread: the segment has scores.
void add_stored_scores(Exec& exec, const AttentionColumnsArgs& args, const HeadPages& pages,
                       int thread_idx);

}  // namespace pikv::kernels::cpu
