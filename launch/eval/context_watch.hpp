// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the newest queries of a run's first context attend to, and what of it the scheduler leaves.
#pragma once

#include <vector>

#include "core/engine/engine.hpp"
#include "core/eviction/attention_map.hpp"
#include "launch/runtime.hpp"

namespace pikv::launch {

struct WatchedContext {
  AttentionMap map;                            // before the scheduler ran at its end
  std::vector<std::vector<Position>> evicted;  // [L, Hkv], by that run: ascending slots of the map
};

/// Watches a run once it is given to the engine (Engine::observe_contexts).
class ContextWatch final : public ContextObserver {
 public:
  static constexpr std::int64_t kNumQueries = 64;  // RuntimeOptions::observed_queries

  /// `runtime` must outlive the watch.
  explicit ContextWatch(Runtime& runtime) : runtime_(runtime) {}

  void on_computed(const ScheduledSequence& sequence) override;
  void on_scheduled(const ScheduledSequence& sequence) override;

  /// On rank 0, after the run.
  [[nodiscard]] const WatchedContext& context() const { return context_; }

 private:
  Runtime& runtime_;
  WatchedContext context_;
};

}  // namespace pikv::launch
