// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Adds the attention that slots receive to their columns (common/attention_columns.hpp), after the
// fact: with the log-sum-exp of each row over all that it read, on whatever ranks, the weight of a
// slot is exp(scale * q . k - lse). No more than a tile of weights exists at a time.
//
// Cost: 2 T H D flops a slot, a second product of queries and keys; nothing of it where attention
// already stored the scores (AttentionSegment::scores), as it can for single rows. Where these read
// nothing elsewhere, attention does all of it (AttentionArgs::adds_to_columns). CPU: the same for
// any number of threads. CUDA: deterministic; stored scores are not read.
#pragma once

#include <optional>

#include "kernels/attention.hpp"

namespace pikv::kernels {

struct AttentionColumnsArgs {
  View<const float, 3> q;                    // [T, H, D]
  View<const std::int32_t, 1> positions;     // [T]
  View<const AttentionSegment, 1> segments;  // as attention had them
  View<const StreamView, 1> streams;         // their columns are changed
  std::int32_t num_kv_heads;
  View<const PageLayout, 1> sealed_layouts;  // on the host
  PageLayout open_layout;
  View<const float, 1> inverse_frequencies = {};  // as attention had them
  float scale;
  std::optional<std::int32_t> window;
  View<const float, 2> lse;  // [T, H], over all shards
  float decay = 0;           // of the decayed columns, in [0, 1)
};

/// Rows of one segment count in their order; segments do not share streams. Throws NotBuilt on a
/// GPU without CUDA, InvalidArgument where the layouts have no columns.
void attention_columns(Exec& exec, const AttentionColumnsArgs& args);

namespace cpu {
void attention_columns(Exec& exec, const AttentionColumnsArgs& args);
}
namespace cuda {
void attention_columns(Exec& exec, const AttentionColumnsArgs& args);
}

}  // namespace pikv::kernels
