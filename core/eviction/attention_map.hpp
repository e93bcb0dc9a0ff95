// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the newest queries of a sequence attend to, for those who look into it: softmax(q k / sqrt
// d) over the slots that the cache holds, in float32, as attention itself never stores it.
//
// O(w n D) a query head, on the rank that gathers the layer; a rank holds [w * G, n] floats of one
// KV head at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/model/attention_tap.hpp"
#include "core/model/model_config.hpp"
#include "kernels/common/exec.hpp"

namespace pikv {

/// All references must outlive the call.
struct AttentionMapParts {
  Exec& exec;
  const ModelConfig& model;
  const KvCache& cache;
  const AttentionTap& tap;
  Communicator& comm;
};

struct AttentionMapShape {
  std::int64_t num_queries;  // the newest; those that the tap still has of them are taken
  std::int64_t max_rows;     // queries are averaged into at most so many
  std::int64_t max_bins;     // positions are put together into at most so many
};

/// Weights are means over the query heads of a KV head, so that those of a query sum to 1.
struct AttentionMap {
  struct Head {
    std::vector<Position> positions;  // [n], ascending: the slots
    std::vector<float> weights;       // [n], means over all queries
    std::vector<float> cells;         // [rows, bins], sums over a bin, means over the queries
  };

  Position num_positions;
  std::int64_t bin_positions;  // each bin has, but for the last
  std::int64_t num_queries;
  std::int64_t num_rows;  // older queries first
  std::int64_t num_kv_heads;
  std::vector<Head> heads;  // [L, Hkv] on rank 0, empty on the others

  [[nodiscard]] std::int64_t num_bins() const {
    return (num_positions + bin_positions - 1) / bin_positions;
  }
};

/// A collective. The sequence computes position `next` next, which is positive.
[[nodiscard]] AttentionMap map_attention(const AttentionMapParts& parts, SequenceId sequence,
                                         Position next, const AttentionMapShape& shape);

}  // namespace pikv
