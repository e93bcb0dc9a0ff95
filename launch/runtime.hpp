// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The composition root: from names and paths to a running engine. Only here are rows picked from
// the policy tables.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/engine/engine.hpp"
#include "core/model/decoder.hpp"
#include "launch/exchange.hpp"
#include "launch/sizes.hpp"

namespace pikv::launch {

struct RuntimeOptions {
  std::filesystem::path model;
  std::filesystem::path shape;    // instead, see find_shape; weights are random, in bf16
  std::string device = "cpu";     // or cuda, or cuda:N
  std::string exchange = "auto";  // of rows between ranks, see make_exchange
  std::string gate = "topk";
  std::string kv_owner = "expert";
  std::string placement = "contiguous";
  std::string codec = "none";
  std::optional<std::string> codec_k;  // of keys, if not the codec
  std::optional<std::string> codec_v;
  std::string scheduler = "full";
  /// That Runtime::switch_scheduler may name: what they need is recorded from the start.
  std::vector<std::string> later_schedulers;
  std::int64_t observed_queries = 0;  // of each sequence, the newest, for who looks into the run
  std::string budget_text = "1.0";    // see parse_budget
  bool stream = false;                // for programs: Request::unbounded
  std::string kv_dtype = "f32";       // short for codec none:dtype=...
  std::string compute_dtype = "f32";  // of products of many rows: f32 or bf16
  std::optional<std::int64_t> kv_shards;  // default: experts, or ranks in a dense model
  std::int32_t page_slots = 16;
  KvMemory kv_memory;              // a rank
  std::optional<int> num_threads;  // a rank; default: its share of the machine
  std::int64_t chunk_tokens = 512;
  std::int64_t max_batch = 32;
};

/// "0.1" is the fraction of slots kept, "512" a count of slots a KV head, "2MiB" the bytes of pages
/// on each rank (also K, M, G, B; powers of 1,024). Throws InvalidArgument for anything else, zero
/// and less among it.
[[nodiscard]] KvBudget parse_budget(std::string_view text);

/// Processors that one rank should use: all it is bound to, or an equal share of the machine when
/// several unbound ranks run on it; at least 1.
[[nodiscard]] int default_num_threads();

/// Everything between a model directory and tokens, on one rank. Every rank makes one with the same
/// options; the constructor is a collective and agrees on errors.
class Runtime {
 public:
  Runtime(Communicator& comm, const RuntimeOptions& options);

  [[nodiscard]] const ModelConfig& model() const { return *config_; }
  [[nodiscard]] const ModelWeights& weights() const { return *weights_; }
  [[nodiscard]] const ShardMap& kv_map() const { return *kv_map_; }
  [[nodiscard]] const ShardMap& expert_map() const { return *expert_map_; }
  [[nodiscard]] Communicator& comm() { return comm_; }
  /// Where the model runs.
  [[nodiscard]] Exec& exec() { return exec_; }
  /// For work on the host.
  [[nodiscard]] Exec& host() { return exec_.host(); }
  /// Between ranks, if rows are not sent as messages.
  [[nodiscard]] const ChosenExchange& exchange() const { return exchange_; }
  /// What the pages of this rank may take, if there is a limit: see kv_memory_bytes().
  [[nodiscard]] std::optional<std::uint64_t> kv_limit_bytes() const { return kv_limit_bytes_; }
  [[nodiscard]] KvCache& cache() { return *cache_; }
  [[nodiscard]] Decoder& decoder() { return *decoder_; }
  [[nodiscard]] AttentionTap& tap() { return *tap_; }
  [[nodiscard]] const SchedulingPass& scheduling() const { return *scheduling_; }
  [[nodiscard]] Engine& engine() { return *engine_; }

  /// Schedules otherwise from now on, also in the middle of a run (from a callback): the next run
  /// of the scheduler, of every sequence, is the new one's. Pages, columns and statistics stay. A
  /// collective: every rank names the same. Throws AgreedError, with nothing changed, for what
  /// cannot be made, or needs what is not recorded (RuntimeOptions::later_schedulers).
  void switch_scheduler(std::string_view scheduler, std::string_view budget_text);
  /// Writes the table of heads that the scheduler was asked to save, if any, on rank 0. A
  /// collective.
  void save_head_table() const;

 private:
  void load(const RuntimeOptions& options);
  void load_weights(const RuntimeOptions& options);
  void check_maps() const;

  Communicator& comm_;
  Exec exec_;
  ChosenExchange exchange_;
  std::unique_ptr<const ModelConfig> config_;
  std::unique_ptr<const ModelWeights> weights_;
  std::unique_ptr<const ModelWeights> weights_on_device_;  // of a GPU
  std::unique_ptr<const Gate> gate_;
  std::unique_ptr<const KvRouter> kv_router_;
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<const Basis> basis_;      // of the codec, or null
  std::unique_ptr<const Encoder> encoder_;  // the same
  std::unique_ptr<const Scheduler> scheduler_;
  std::unique_ptr<const ShardMap> expert_map_;
  std::unique_ptr<const ShardMap> kv_map_;
  std::optional<std::uint64_t> kv_limit_bytes_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<AttentionTap> tap_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<SchedulingPass> scheduling_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace pikv::launch
