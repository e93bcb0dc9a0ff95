// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Queries of one rank's rows with what another rank, or the same, holds for them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/base/ids.hpp"
#include "core/cache/kv_cache.hpp"
#include "kernels/attention.hpp"
#include "kernels/common/exec.hpp"

namespace pikv {

struct AttentionBatch {
  /// Rows whose queries are answered.
  struct Queries {
    std::span<const SequenceId> sequences;
    std::span<const Position> positions;
    View<const float, 3> q;
    View<float, 3> o;
    View<float, 2> lse;
  };

  Queries queries;
  KvCache::Entries entries;  // that the rows bring

  std::vector<kernels::AttentionSegment> segments;
  std::vector<kernels::StreamView> streams;        // that the segments read
  std::vector<kernels::StreamView> whole_streams;  // before pages were chosen, where that is asked
  std::vector<std::byte*> chosen_pages;            // which the streams of lone rows point to
  std::vector<std::uint8_t> chosen_forms;          // of these
  std::vector<float> scores;                       // of single rows, where slots keep account
};

/// The segments of a batch, in their order, cut wherever a sequence would come a second time: rows
/// of several ranks may be of one sequence with those of others in between. What writes to the
/// slots of a sequence takes one run after another.
[[nodiscard]] std::vector<std::span<const kernels::AttentionSegment>> runs_of_own_sequences(
    const AttentionBatch& batch);

/// What a batch reads and where its rows are, as operations of `exec` take it: see Exec::on_device.
struct AttentionBatchView {
  View<const std::int32_t, 1> positions;
  View<const kernels::AttentionSegment, 1> segments;
  View<const kernels::StreamView, 1> streams;
};
[[nodiscard]] AttentionBatchView on_device(Exec& exec, const AttentionBatch& batch,
                                           std::span<const kernels::AttentionSegment> segments);

}  // namespace pikv
