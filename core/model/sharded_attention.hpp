// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Exact attention over a KV cache that is divided over ranks (DESIGN 1 and 5).
//
// Each row's new entry goes to its owner shard and its query to every rank with a shard; each rank
// appends, attends over what it holds and returns one partial output and log-sum-exp a row and
// head; the row's rank merges them in the order of ranks. Two exchanges a layer, whose bytes depend
// on the rows of the step and not on the length of the context. A group of one exchanges nothing.
// Where a sequence has a basis, queries enter it and outputs leave it on the row's rank.
// With a page reader, lone rows read some of the pages (core/model/page_choice.hpp).
//
// Ranks on CPUs send each other messages (messaged_attention.cpp). With a row exchange, of GPUs,
// every rank gets all rows instead and chooses what it owns (gathered_attention.cpp).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/comm/row_exchange.hpp"
#include "core/model/attention_batch.hpp"
#include "core/model/page_choice.hpp"
#include "core/model/step_rows.hpp"
#include "core/policy/kv_router.hpp"
#include "core/policy/shard_map.hpp"
#include "kernels/common/exec.hpp"

namespace pikv {

class ShardedAttention {
 public:
  struct Config {
    std::int64_t num_heads;
    std::int64_t num_kv_heads;
    std::int64_t head_dim;
    float column_decay = 0;                   // of the cache's decayed attention columns
    const PageReader* page_reader = nullptr;  // or null: everything is read
    KvBudget read_budget = {};                // of the page reader
    RowExchange* exchange = nullptr;          // between GPUs; null: messages of the communicator
  };

  /// All references must outlive this object.
  ShardedAttention(Exec& exec, Communicator& comm, KvCache& cache, const ShardMap& shard_map,
                   const KvRouter& router, const Config& config);

  struct Args {
    LayerId layer;
    const StepRows& rows;                       // T that this rank computes; T may be 0
    std::span<const std::int32_t> last_expert;  // [T], with an exchange [N]; see KvRouterInput
    std::optional<std::int32_t> window;
    View<const float, 3> q;                         // [T, H, D]
    View<const float, 3> k;                         // [T, Hkv, D]
    View<const float, 3> v;                         // [T, Hkv, D]
    View<float, 3> o;                               // [T, H, D]
    const kernels::Rotations* rotations = nullptr;  // that q and k still need, or null
  };
  /// A collective: every rank calls it for the same layer. Throws OutOfMemory when the pool of this
  /// rank is full. On a GPU, k and v are in the same place in all layers of a step.
  void run(const Args& args);
  /// After the last layer of a step, or one that failed.
  void end_step();

  /// What the page reader left out; zeros without one.
  [[nodiscard]] ReadStats read_stats() const {
    return page_choice_ ? page_choice_->stats() : ReadStats{};
  }

 private:
  using Batch = AttentionBatch;

  [[nodiscard]] View<const float, 3> queries_in_basis(const Args& args);
  /// Rows whose entries and queries this rank serves: its own, or those of all ranks.
  struct ServedRows {
    std::span<const SequenceId> sequences;
    std::span<const Position> positions;
    std::span<const std::int32_t> last_expert;
    View<const float, 3> k, v;
  };
  [[nodiscard]] static ServedRows own_rows(const Args& args) {
    return {args.rows.sequences, args.rows.positions, args.last_expert, args.k, args.v};
  }
  void choose_owners(LayerId layer, const ServedRows& rows);
  void run_alone(const Args& args);
  /// A layer of which the GPU knows already what its rows read and where they go.
  struct PreparedLayer {
    LayerId layer{};
    Batch batch{};
    AttentionBatchView on_device{};
  };
  [[nodiscard]] bool prepares(const ServedRows& rows) const;
  [[nodiscard]] bool runs_prepared(const Args& args) const {
    return config_.exchange == nullptr && comm_.size() == 1 && prepares(own_rows(args));
  }
  void prepare_layers(LayerId first, const ServedRows& rows);
  [[nodiscard]] PreparedLayer take_prepared(LayerId layer, const ServedRows& rows,
                                            const kernels::Rotations* rotations);
  void run_prepared(const Args& args);
  [[nodiscard]] KvCache::Entries entries_here(LayerId layer, const ServedRows& rows);
  void append(const KvCache::Entries& entries);
  [[noreturn]] void refuse(const KvCache::Entries& entries) const;
  void attend(LayerId layer, std::optional<std::int32_t> window, const std::vector<int>& holders,
              std::span<Batch> batches);
  struct Attended {
    View<float, 3> o;
    View<float, 2> lse;
    bool accounts = false;  // of single rows, in the same go
  };
  void attend(std::optional<std::int32_t> window, const Batch& batch, const Attended& to);
  void attend(std::optional<std::int32_t> window, const Batch& batch,
              const AttentionBatchView& rows, const Attended& to);
  void measure(std::optional<std::int32_t> window, const Batch& batch);
  void collect(LayerId layer, Batch& batch) const;
  void make_room_for_scores(Batch& batch) const;
  [[nodiscard]] bool stores_scores(const Batch& batch,
                                   const kernels::AttentionSegment& segment) const;
  static void drop_single_rows(Batch& batch);
  void account(std::optional<std::int32_t> window, const Batch& batch, View<const float, 2> lse);
  void exchange_totals(const Args& args, const std::vector<int>& holders);
  [[nodiscard]] bool keeps_account() const { return !cache_.open_layout().columns.empty(); }
  /// On a GPU keys are read again for the account.
  [[nodiscard]] bool keeps_scores() const { return exec_.device() == Device::kCpu; }
  [[nodiscard]] bool adds_as_it_attends() const {
    return keeps_account() && keeps_scores() && comm_.size() == 1;
  }
  void run_messaged(const Args& args);
  void pack(const Args& args, int rank, bool has_shards);
  void answer(const Args& args, const std::vector<int>& holders);
  void merge(const Args& args);

  void run_gathered(const Args& args);
  void append_here(LayerId layer, const ServedRows& rows);
  void attend_gathered(const Args& args, View<const float, 3> q, const ServedRows& rows);
  void merge_parts(const Args& args, const std::vector<int>& holders);

  Exec& exec_;
  Communicator& comm_;
  KvCache& cache_;
  const ShardMap& shard_map_;
  const KvRouter& router_;
  Config config_;

  std::vector<ShardId> owners_;             // of this rank's rows
  std::vector<Message> send_, received_;    // queries and entries
  std::vector<Message> replies_, results_;  // partial outputs
  std::vector<Message> totals_, received_totals_;
  std::vector<Batch> batches_;  // of the layer in progress, with the rank that each came from
  std::vector<std::size_t> batch_ranks_;
  std::deque<PreparedLayer> prepared_;  // of the layers that come next
  std::optional<PageChoice> page_choice_;
  DeviceBuffer<float> lse_;
  DeviceBuffer<float> queries_in_basis_;

  /// Rows of all ranks, N, and what comes back of those that this rank computes, T.
  struct Gathered {
    Device device;
    DeviceBuffer<float> q{device}, k{device}, v{device};     // [N, ...]
    DeviceBuffer<float> o{device}, lse{device};              // [N, ...]
    DeviceBuffer<float> o_parts{device}, lse_parts{device};  // [R, T, ...]
    DeviceBuffer<float> own_k{device}, own_v{device};        // of the entries below
  };
  Gathered gathered_;
  /// Entries that this rank owns, of those of all ranks.
  struct Owned {
    std::vector<std::int32_t> rows;
    std::vector<SequenceId> sequences;
    std::vector<Position> positions;
    std::vector<ShardId> shards;
  };
  Owned owned_;
};

}  // namespace pikv
