// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How much of the attention of a full cache falls on slots that a compressed one still holds.
//
// The full cache sees the tokens that the compressed one saw, those that it generated among them.
// For each query of each layer and head, the hit rate is the sum of its attention weights over the
// slots that the compressed cache held when it computed that token; a slot that was evicted after n
// tokens is missed by the queries of positions n and later. What a page reader leaves unread is
// held. The full cache is asked because in the compressed one what was evicted has no weight.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/engine/batch_plan.hpp"
#include "core/eviction/row_weights.hpp"
#include "core/eviction/slot_gather.hpp"
#include "launch/runtime.hpp"

namespace pikv::launch {

class HitRate {
 public:
  /// `runtime` never evicts, has run nothing and must outlive this object.
  HitRate(Runtime& runtime, std::int64_t chunk_tokens, ProgressCallback on_step);
  HitRate(const HitRate&) = delete;
  HitRate& operator=(const HitRate&) = delete;

  /// A collective: measures the queries of positions from `first_query` on. `compressed` has its
  /// history (Engine::keep_histories). Sequences that have the tokens before in common should come
  /// one after another: these are computed once.
  void add(const Completion& compressed, std::int64_t first_query);

  /// A collective: the mean over layers, query heads and queries, the same on every rank; exactly 1
  /// where nothing was evicted, nothing where there was no query.
  [[nodiscard]] std::optional<double> mean() const;

 private:
  void hold_context(std::span<const TokenId> context);
  void compute(SequenceId sequence, std::span<const TokenId> tokens, std::int64_t begin);
  void add_layer(SlotGather::Layer& layer, const EvictionRecord& evictions);
  void add_head(const SlotGather::Layer& layer, std::size_t kv_head, std::span<const Position> gone,
                double& sum);

  Runtime& runtime_;
  std::int64_t chunk_tokens_;
  ProgressCallback on_step_;
  SlotGather gather_;
  RowWeights weights_;
  std::optional<std::vector<TokenId>> context_;  // what the cache holds between two calls
  std::int64_t num_queries_ = 0;
  std::vector<double> sums_;  // [L], over heads and queries; of the layers of this rank
};

}  // namespace pikv::launch
