// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Brings what a scheduler looks at together: each layer of a sequence whole on one rank, layer l on
// rank l mod R, whatever the shards of its slots.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/model/attention_tap.hpp"
#include "core/model/model_config.hpp"
#include "core/policy/scheduler.hpp"

namespace pikv {

class SlotGather {
 public:
  /// All references must outlive this object.
  SlotGather(const ModelConfig& model, const KvCache& cache, const AttentionTap& tap,
             Communicator& comm);

  struct Head {
    std::vector<std::int64_t> counts;  // [R], slots of each rank
    KvCache::HeadContents slots;       // rank after rank
  };
  struct Layer {
    LayerId layer;
    std::vector<Head> heads;                    // [Hkv]
    std::span<const Position> query_positions;  // [w], ascending
    std::span<const float> queries;             // [w, H, D]
    AttentionTap::Rows rows;                    // which hold these, unless the tap does
    std::int64_t moment_count = 0;
    std::vector<float> mean, covariance;  // [H, D], [H, D, D]
    std::int64_t key_count = 0;
    std::vector<float> key_means;       // [Hkv, D]
    std::vector<float> key_deviations;  // [Hkv], mean squares
  };

  /// A collective: the layers of [first, last) that fall to this rank. `next`: the position that
  /// the sequence computes next. Valid until the next call or change of the tap.
  [[nodiscard]] std::span<Layer> run(SequenceId sequence, Position next,
                                     const SchedulerNeeds& needs, std::int64_t first,
                                     std::int64_t last);

  [[nodiscard]] int num_ranks() const { return comm_.size(); }
  [[nodiscard]] int rank_of(std::int64_t layer) const {
    return static_cast<int>(layer % comm_.size());
  }
  /// Slots [begin, end) of a head, in the order of Head::slots, are a stream of this rank.
  struct Run {
    StreamId stream;
    std::int32_t begin;
    std::int32_t end;
  };
  /// Those of head h of layer l as they were when it was gathered last, with `head` = l * Hkv + h
  /// and its Head::counts.
  [[nodiscard]] std::vector<Run> runs(SequenceId sequence, std::size_t head,
                                      std::span<const std::int64_t> counts) const;

 private:
  /// What this rank holds of a layer.
  struct Share {
    std::vector<KvCache::HeadContents> heads;
    AttentionTap::Rows rows;
    std::optional<AttentionTap::RowsView> rows_in_tap;  // instead of these
    std::vector<double> moment_sums, key_sums;
  };

  void read_slots(SequenceId sequence, const SchedulerNeeds& needs, std::int64_t first,
                  std::int64_t last);
  void read_tap(SequenceId sequence, Position next, const SchedulerNeeds& needs, LayerId layer,
                Share& share) const;
  [[nodiscard]] static std::size_t bytes_of(const Share& share);
  void exchange(std::int64_t first, std::int64_t last);
  void add_share(std::vector<class MessageFields>& messages, const SchedulerNeeds& needs,
                 Layer& layer, Share& sum) const;
  void add_queries(Share& share, Layer& layer) const;
  void add_moments(const std::vector<double>& sums, Layer& layer) const;
  void add_key_moments(const std::vector<double>& sums, Layer& layer) const;

  const ModelConfig& model_;
  const KvCache& cache_;
  const AttentionTap& tap_;
  Communicator& comm_;
  std::vector<Message> send_, received_;
  std::vector<Share> shares_;  // of the round
  std::vector<Layer> layers_;
  std::vector<std::vector<KvCache::HeadContents::Part>> parts_;  // [L, Hkv]
};

}  // namespace pikv
