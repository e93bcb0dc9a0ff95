// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The forward pass of a decoder-only transformer over a sharded KV cache and sharded experts. One
// class for all families; what differs is data in ModelConfig.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/comm/row_exchange.hpp"
#include "core/model/attention_tap.hpp"
#include "core/model/mlp.hpp"
#include "core/model/model_config.hpp"
#include "core/model/sharded_attention.hpp"
#include "core/model/sharded_experts.hpp"
#include "core/model/step_rows.hpp"
#include "core/model/weights.hpp"
#include "core/policy/gate.hpp"
#include "core/policy/kv_router.hpp"

namespace pikv {

/// What a decoder is made of. All references must outlive it.
struct DecoderParts {
  const ModelConfig& config;
  const ModelWeights& weights;
  const ShardMap& expert_map;  // experts to ranks
  const ShardMap& kv_map;      // KV shards to ranks
  KvCache& cache;
  Communicator& comm;
  const Gate& gate;
  const KvRouter& kv_router;
  float column_decay = 0;                   // of the cache's decayed attention columns
  const PageReader* page_reader = nullptr;  // or null: everything is read
  KvBudget read_budget = {};                // of the page reader
  RowExchange* exchange = nullptr;          // between GPUs; or null: messages of comm
  AttentionTap& tap;
};

/// Sees the residual stream [T, hidden], where the Exec has it, as it enters each layer (0 ... L -
/// 1), and once more after the final norm (L). For tests and analysis.
using HiddenObserver = std::function<void(std::int64_t layer, View<const float, 2> hidden)>;

class Decoder {
 public:
  Decoder(Exec& exec, const DecoderParts& parts);

  /// Runs this rank's rows through all layers, appending their keys and values to the cache. A
  /// collective: every rank calls it once a step, with no rows if it has none. With an exchange,
  /// `rows.all` is set, and all of it is done on return: no later wait can be for a lost peer.
  /// Steps of one row a sequence are recorded (Exec::record), between GPUs where the exchange can
  /// be.
  void forward(const StepRows& rows, const HiddenObserver& observer = {});

  /// Whether every rank should compute all rows of a step of so many (StepRows::is_shared). With an
  /// exchange and few rows it is faster: each rank has to read the dense weights anyway, and two of
  /// the four exchanges of a layer fall away. All ranks come to the same bits, as one kind of GPU
  /// does, or a CPU. Where queries or keys are recorded, each rank records its own.
  [[nodiscard]] bool shares_rows(std::int64_t num_rows) const {
    constexpr std::int64_t kMostRows = 8;  // that share one reading of a weight
    return parts_.exchange != nullptr && num_rows <= kMostRows && !parts_.tap.wants_rows() &&
           !parts_.tap.wants_moments() && !parts_.tap.wants_key_moments();
  }

  /// Logits [n, V] of some rows of the last forward, by their subscripts, on the host. Valid until
  /// the next call.
  [[nodiscard]] View<const float, 2> logits(const std::vector<std::int32_t>& rows);

  /// The most probable token of each such row, [n], on the host: what the largest of its logits()
  /// is, of equals the first (kernels/argmax.hpp). Valid until the next call.
  [[nodiscard]] std::span<const TokenId> greedy_tokens(const std::vector<std::int32_t>& rows);

  /// Bytes of the weights that this rank's steps touched, each matrix once a step, the head once
  /// a call of logits() or greedy_tokens().
  [[nodiscard]] std::uint64_t weight_bytes_read() const {
    return dense_bytes_read_ + experts_.weight_bytes_read();
  }

  /// What went from this rank's GPU to others; what went from the host, the communicator counts.
  [[nodiscard]] std::uint64_t bytes_sent() const {
    const bool counts = parts_.exchange != nullptr && exec_.device() == Device::kCuda;
    return counts ? parts_.exchange->stats().bytes_sent : 0;
  }

  /// What decode left unread of the cache.
  [[nodiscard]] ReadStats read_stats() const { return attention_.read_stats(); }

 private:
  [[nodiscard]] bool can_be_recorded() const;
  void run_layers(const StepRows& rows, const HiddenObserver& observer);
  void attention_block(LayerId layer, const StepRows& rows);
  void mlp_block(LayerId layer, const StepRows& rows);
  void note_experts(View<const std::int32_t, 2> choices);
  void run_experts(LayerId layer, WeightVector norm, const MoeWeights& moe, const StepRows& rows);
  void normalize(WeightVector weight, std::span<const kernels::LinearArgs> products);
  void close_branch();
  [[nodiscard]] View<const float, 2> project(const std::vector<std::int32_t>& rows);
  [[nodiscard]] kernels::Rotations rotations_of(const AttentionWeights& weights,
                                                std::int64_t num_rows, View<float, 3> q,
                                                View<float, 3> k, bool normalizes) const;
  void normalize_heads(const AttentionWeights& weights, View<float, 3> q, View<float, 3> k);

  Exec& exec_;
  DecoderParts parts_;
  ShardedAttention attention_;
  ShardedExperts experts_;
  Mlp mlp_;
  std::vector<float> inverse_frequencies_;

  // Activations of the step, all [T, ...].
  DeviceBuffer<float> hidden_, summed_, normed_, branch_;
  bool branch_is_open_ = false;  // still to be added to hidden_
  DeviceBuffer<float> q_, k_, v_, attended_;
  DeviceBuffer<float> cos_, sin_;
  DeviceBuffer<float> gate_logits_, mix_, shared_, shared_gate_;
  DeviceBuffer<std::int32_t> choices_;     // [T, K]
  std::vector<std::int32_t> last_expert_;  // [T], with an exchange [N]; see KvRouterInput
  DeviceBuffer<float> selected_, logits_;
  std::vector<std::int32_t> choices_on_host_;  // of a GPU
  std::vector<float> logits_on_host_;          // the same
  DeviceBuffer<TokenId> greedy_;
  std::vector<TokenId> greedy_on_host_;
  std::uint64_t dense_bytes_read_ = 0;
};

}  // namespace pikv
