// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Lets slots that are about to be evicted leave parts of their values to slots that stay.
//
// The terms of a merge are known to every rank: each works them out by itself or, where they take
// keys or values, the rank that gathers the layer does and tells the others. What then travels are
// the values that are given, once to each rank that holds a slot that takes them.
//
// Sums are taken in the order of positions, by the rank that holds the slot: for equal terms and
// values the result is the same bit for bit, whatever the number of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/eviction/slot_gather.hpp"
#include "core/model/model_config.hpp"
#include "core/policy/scheduler.hpp"

namespace pikv {

class MergePass {
 public:
  /// All references must outlive the pass.
  MergePass(Exec& exec, const ModelConfig& model, KvCache& cache, SlotGather& gather,
            Communicator& comm);

  /// A sequence of which it is known what goes; it was gathered last as it is now.
  struct Selection {
    const SequenceScores& scores;
    std::span<const std::vector<std::int32_t>> evict;   // [L, Hkv]
    std::span<const std::vector<std::int64_t>> counts;  // [L, Hkv] of [R], slots of each rank
  };
  /// A collective. How many slots gave something of their value. Throws Error for a term of a slot
  /// that goes, from another one that stays, or of a weight that is not a finite number.
  [[nodiscard]] std::int64_t run(const Scheduler& scheduler, const Selection& selection);

 private:
  /// A slot whose value a rank needs.
  struct Gift {
    std::int32_t from;
    std::int32_t rank;
    [[nodiscard]] auto operator<=>(const Gift&) const = default;
  };
  /// One head of the round.
  struct Head {
    std::vector<ValueTerm> terms;     // by `to`, then by the position of `from`
    std::vector<Gift> gifts;          // ascending
    std::vector<std::int32_t> given;  // slots of this rank that give, ascending
    std::vector<float> values;        // [given, D]
  };

  void decide(const Scheduler& scheduler, const Selection& selection, LayerId layer,
              std::span<const View<const float, 2>> keys,
              std::span<const View<const float, 2>> values);
  void gather_and_decide(const Scheduler& scheduler, const Selection& selection,
                         const MergeNeeds& needs, std::int64_t first, std::int64_t last);
  void share(const Selection& selection, std::int64_t first, std::int64_t last);
  void put_in_order(const Selection& selection, std::size_t head_idx);
  void read(const Selection& selection, std::size_t first, std::size_t last);
  [[nodiscard]] bool leaves_its_rank(const Selection& selection, std::size_t first,
                                     std::size_t last) const;
  void exchange(const Selection& selection, std::size_t first, std::size_t last);
  /// What slots of a stream become.
  struct Updates {
    StreamId stream;
    std::vector<KvCache::ValueUpdate> updates;
    std::vector<float> sums;  // [updates, D], their addends
  };
  void add_updates(const Selection& selection, std::size_t head_idx,
                   std::vector<class MessageFields>& messages, std::vector<Updates>& all) const;
  void update(std::span<const Updates> all);
  [[nodiscard]] std::span<const float> value_of(const Head& head, std::int32_t slot) const;
  [[nodiscard]] static std::int32_t owner(std::span<const std::int64_t> counts, std::int32_t slot);

  Exec& exec_;
  const ModelConfig& model_;
  KvCache& cache_;
  SlotGather& gather_;
  Communicator& comm_;
  std::vector<Message> send_, received_;
  std::vector<Head> heads_;                      // [L, Hkv]
  std::vector<std::vector<ValueTerm>> decided_;  // [Hkv]
};

}  // namespace pikv
