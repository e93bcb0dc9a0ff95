// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The parts that schedulers are made of: what a slot is worth, and how a budget is spread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/policy/scheduler.hpp"
#include "core/policy/table.hpp"

namespace pikv::scheduling {

/// Slots that are kept whatever their score: the first and the newest positions of a sequence.
struct Protection {
  std::int64_t sinks = 0;
  std::int64_t recents = 0;

  [[nodiscard]] bool covers(Position position, Position next) const {
    return position < sinks || position >= next - recents;
  }
  /// What either protects.
  [[nodiscard]] Protection joined(const Protection& other) const {
    return {std::max(sinks, other.sinks), std::max(recents, other.recents)};
  }
};

/// The importance of slots; higher is kept.
class Scorer {
 public:
  virtual ~Scorer() = default;

  [[nodiscard]] virtual SchedulerNeeds needs() const = 0;
  /// Whether scores are attention weights or sums of them, and their own sum a mass.
  [[nodiscard]] virtual bool gives_attention() const { return false; }
  /// What the method itself always keeps, of a head that may keep `budget_slots`.
  [[nodiscard]] virtual Protection protection(std::int64_t /*budget_slots*/) const { return {}; }
  /// scores[h][i] of slot i of KV head h; sized by the caller.
  virtual void score(Exec& exec, const LayerSlots& slots,
                     std::span<std::vector<float>> scores) const = 0;
  /// See Scheduler::score_reread.
  virtual void score_reread(Exec& /*exec*/, const LayerSlots& /*slots*/,
                            const RereadChunk& /*chunk*/,
                            std::span<std::vector<float>> /*scores*/) const {}
};

struct ScorerRow {
  std::string_view name;
  std::unique_ptr<const Scorer> (*make)(PolicyOptions& options);
};

/// The scorer that the option "scorer" names, for methods over any other; it takes its own options
/// from the same list.
[[nodiscard]] std::unique_ptr<const Scorer> make_base_scorer(PolicyOptions& options,
                                                             std::string_view fallback);

/// How many slots each head keeps: counts[l * Hkv + h].
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual void allocate(const SequenceScores& scores, const KvBudget& budget,
                        const Protection& protection, std::span<std::int64_t> counts) const = 0;
};

/// Which slots go: evict[l * Hkv + h] gets ascending subscripts of all but counts[l * Hkv + h].
class Selector {
 public:
  virtual ~Selector() = default;
  virtual void select(const SequenceScores& scores, const Protection& protection,
                      std::span<const std::int64_t> counts,
                      std::span<std::vector<std::int32_t>> evict) const = 0;
};

[[nodiscard]] std::unique_ptr<const Selector> make_top_selector();
/// ChunkKV (Liu et al. 2025, 2502.00299): whole runs of `chunk` tokens, the same for all heads of a
/// layer, by their mean score over slots and heads; the last one is cut where the budget ends.
[[nodiscard]] std::unique_ptr<const Selector> make_chunk_selector(std::int64_t chunk);

/// kvpress' ChunkPress: of each run of `segment` positions the best, as many as falls to its slots;
/// what is protected beside its share. In contrast to ChunkPress, scores see the whole context.
[[nodiscard]] std::unique_ptr<const Selector> make_segment_selector(std::int64_t segment);

/// FastV (Chen et al. 2024, 2403.06764): from layer `layers` on slots go by what their positions
/// are worth in the layer before that, averaged over its heads; what that layer no longer has goes
/// first.
[[nodiscard]] std::unique_ptr<const Selector> make_layer_selector(std::int64_t layers);

/// Order of the slots of a head, best first: protected ones, then by score, then the older.
[[nodiscard]] std::vector<std::int32_t> ranked(const HeadScores& head, const Protection& protection,
                                               Position next);
/// The last `count` of that order, ascending in subscript; in time O(n) where few are asked for.
[[nodiscard]] std::vector<std::int32_t> worst(const HeadScores& head, const Protection& protection,
                                              Position next, std::size_t count);

}  // namespace pikv::scheduling
