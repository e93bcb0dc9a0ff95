// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/runtime.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <thread>

#include "compression/compose.hpp"
#include "core/comm/agreement.hpp"
#include "core/io/tokenizer/tokenizer.hpp"
#include "core/model/fingerprint.hpp"
#include "kernels/common/error.hpp"
#include "launch/shapes.hpp"
#include "routing/tables.hpp"
#include "scheduling/head_table.hpp"
#include "scheduling/tables.hpp"

namespace pikv::launch {
namespace {

int ranks_on_this_machine() {
  const char* text = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  return text != nullptr ? std::max(1, std::atoi(text)) : 1;
}

int local_rank() {
  const char* text = std::getenv("OMPI_COMM_WORLD_LOCAL_RANK");
  return text != nullptr ? std::max(0, std::atoi(text)) : 0;
}

std::string codec_spec(const RuntimeOptions& options) {
  if (options.kv_dtype == "f32") return options.codec;
  require(options.codec == "none", "kv-dtype", "'", options.kv_dtype,
          "' applies to codec 'none', not to '", options.codec, "'");
  return "none:dtype=" + options.kv_dtype;
}

std::unique_ptr<const Codec> codec_of(const RuntimeOptions& options) {
  using compression::make_codec;
  const std::string both = codec_spec(options);
  if (!options.codec_k && !options.codec_v) return make_codec(both);
  return compression::split_codec(make_codec(options.codec_k.value_or(both)),
                                  make_codec(options.codec_v.value_or(both)));
}

template <class Number>
std::optional<Number> parse_whole(std::string_view text) {
  Number value{};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Lets a scheduler see the model's layers and heads, without a slot, so that one with a table for
/// another model says so before the first token.
void select_from_nothing(const Scheduler& scheduler, const ModelConfig& model) {
  const auto num_heads = static_cast<std::size_t>(model.num_layers * model.num_kv_heads);
  std::vector<std::vector<std::int32_t>> evict(num_heads);
  scheduler.select({.sequence = SequenceId{0},
                    .next_position = 0,
                    .num_context = 0,
                    .num_kv_heads = model.num_kv_heads,
                    .heads = std::vector<HeadScores>(num_heads)},
                   {}, evict);
}

std::vector<TokenId> prompt_tokens(const std::string& text, const std::filesystem::path& model) {
  if (text.empty()) return {};
  return Tokenizer::from_file(model / "tokenizer.json").encode(text, {.add_special_tokens = false});
}

/// "cpu", "cuda" (of the ranks of a machine each its own) or "cuda:1".
Exec make_exec(const RuntimeOptions& options, int num_ranks) {
  const int num_threads = options.num_threads.value_or(default_num_threads());
  const std::string_view device = options.device;
  if (device == "cpu") return Exec::cpu(num_threads);
  constexpr std::string_view kCuda = "cuda";
  const bool is_numbered = device.starts_with("cuda:");
  const auto number =
      is_numbered ? parse_whole<int>(device.substr(kCuda.size() + 1)) : std::optional(local_rank());
  require((device == kCuda || is_numbered) && number && *number >= 0, "device", "'", device,
          "' is neither cpu, nor cuda, nor cuda:N");
  if (num_ranks > 1 && !is_numbered) {
    const auto num_gpus = std::ssize(describe_cuda_devices());
    require(*number < num_gpus, "device", ranks_on_this_machine(), " ranks for ", num_gpus,
            " GPUs of this machine; each rank needs its own");
  }
  return Exec::cuda(*number, num_threads);
}

}  // namespace

KvBudget parse_budget(std::string_view text) {
  if (const auto slots = parse_whole<std::int64_t>(text); slots && *slots > 0) {
    return {.slots = *slots};
  }
  if (const auto bytes = parse_size(text); bytes && *bytes > 0) return {.bytes = *bytes};
  const auto fraction = parse_whole<double>(text);
  if (fraction && *fraction > 0 && *fraction <= 1) {
    return {.fraction = *fraction};
  }
  throw InvalidArgument(fmt::format(
      "budget: '{}' is neither a fraction in (0, 1], nor a positive count of slots, nor bytes",
      text));
}

int default_num_threads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int online = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int bound =
      sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : online;
  const long configured = sysconf(_SC_NPROCESSORS_ONLN);
  // A mask narrower than the machine is this rank's own share already.
  if (bound < configured) return std::max(1, bound);
  return std::max(1, bound / ranks_on_this_machine());
}

Runtime::Runtime(Communicator& comm, const RuntimeOptions& options)
    : comm_(comm),
      exec_(agree(comm, [&] { return make_exec(options, comm.size()); })),
      exchange_(make_exchange(comm, exec_, options.exchange)) {
  agree(comm_, [&] { load(options); });
  check_maps();
}

void Runtime::load(const RuntimeOptions& options) {
  exec_.set_product_dtype(options.compute_dtype == "bf16" ? DType::kBf16 : DType::kF32);
  gate_ = make_policy("gate", routing::gates(), options.gate);
  kv_router_ = make_policy("kv-owner", routing::kv_routers(), options.kv_owner);
  const auto placement = make_policy("placement", routing::placements(), options.placement);
  codec_ = codec_of(options);
  scheduler_ = make_policy("scheduler", scheduling::schedulers(), options.scheduler);

  const bool has_weights = options.shape.empty();
  config_ = std::make_unique<const ModelConfig>(
      read_model_config(has_weights ? options.model : find_shape(options.shape)));
  const std::int64_t num_experts = std::max<std::int64_t>(config_->num_experts, 1);
  const std::int64_t num_shards =
      options.kv_shards.value_or(config_->is_mixture() ? num_experts : comm_.size());
  require(num_shards > 0 && num_shards <= 65'536, "kv-shards", num_shards,
          " is outside [1, 65536]");
  expert_map_ = std::make_unique<const ShardMap>(placement->place(
      {.num_layers = config_->num_layers, .num_shards = num_experts, .num_ranks = comm_.size()}));
  kv_map_ = std::make_unique<const ShardMap>(placement->place(
      {.num_layers = config_->num_layers, .num_shards = num_shards, .num_ranks = comm_.size()}));
  SchedulerNeeds needs = scheduler_->needs();
  for (const std::string& later : options.later_schedulers) {
    needs = needs.joined(make_policy("scheduler", scheduling::schedulers(), later)->needs());
  }
  needs.query_rows = std::max(needs.query_rows, options.observed_queries);
  load_weights(options);
  require(has_weights || !needs.output_projection || exec_.device() == Device::kCpu, "scheduler",
          "'", options.scheduler, "' looks at weights, and random ones are on the GPU alone");
  const CachedModel model = has_weights ? cached_model(*config_, *weights_)
                                        : CachedModel{.num_layers = config_->num_layers,
                                                      .num_kv_heads = config_->num_kv_heads,
                                                      .head_dim = config_->head_dim,
                                                      .fingerprint = "random"};
  basis_ = codec_->make_basis(model);
  encoder_ = codec_->make_encoder(model);
  kv_limit_bytes_ = kv_memory_bytes(options.kv_memory, exec_.gpu_memory());
  cache_ =
      std::make_unique<KvCache>(exec_,
                                KvCacheConfig{.num_kv_heads = config_->num_kv_heads,
                                              .head_dim = config_->head_dim,
                                              .page_slots = options.page_slots,
                                              .columns = needs.columns,
                                              .key_bounds = needs.key_bounds,
                                              .basis = basis_.get(),
                                              .encoder = encoder_.get(),
                                              .inverse_frequencies = inverse_frequencies(*config_),
                                              .budget_bytes = kv_limit_bytes_},
                                *kv_map_, comm_.rank(), *codec_);
  const KvBudget budget = parse_budget(options.budget_text);
  select_from_nothing(*scheduler_, *config_);
  tap_ = std::make_unique<AttentionTap>(exec_,
                                        AttentionTap::Shape{.num_layers = config_->num_layers,
                                                            .num_heads = config_->num_heads,
                                                            .num_kv_heads = config_->num_kv_heads,
                                                            .head_dim = config_->head_dim},
                                        needs);
  decoder_ = std::make_unique<Decoder>(
      exec_, DecoderParts{.config = *config_,
                          .weights = weights_on_device_ ? *weights_on_device_ : *weights_,
                          .expert_map = *expert_map_,
                          .kv_map = *kv_map_,
                          .cache = *cache_,
                          .comm = comm_,
                          .gate = *gate_,
                          .kv_router = *kv_router_,
                          .column_decay = needs.column_decay,
                          .page_reader = scheduler_->page_reader(),
                          .read_budget = budget,
                          .exchange = exchange_.exchange.get(),
                          .tap = *tap_});
  scheduling_ =
      std::make_unique<SchedulingPass>(exec_.host(), SchedulingParts{.model = *config_,
                                                                     .weights = *weights_,
                                                                     .cache = *cache_,
                                                                     .tap = *tap_,
                                                                     .comm = comm_,
                                                                     .scheduler = *scheduler_,
                                                                     .budget = budget,
                                                                     .recorded = needs});
  engine_ = std::make_unique<Engine>(
      EngineParts{.model = *config_,
                  .decoder = *decoder_,
                  .cache = *cache_,
                  .comm = comm_,
                  .tap = *tap_,
                  .scheduling = *scheduling_},
      EngineConfig{.max_batch_sequences = options.max_batch,
                   .chunk_tokens = options.chunk_tokens,
                   .reread_prompt = prompt_tokens(needs.reread.prompt, options.model)});
}

/// Host weights are what schedulers and codecs look at; the decoder has its own on a GPU.
void Runtime::load_weights(const RuntimeOptions& options) {
  if (!options.shape.empty()) {
    weights_ = std::make_unique<const ModelWeights>(ModelWeights::random(
        exec_, *config_, DType::kBf16, /*seed=*/0, *expert_map_, comm_.rank()));
    return;
  }
  weights_ = std::make_unique<const ModelWeights>(options.model, *config_);
  if (exec_.device() == Device::kCpu) return;
  weights_on_device_ =
      std::make_unique<const ModelWeights>(weights_->on_device(exec_, *expert_map_, comm_.rank()));
}

void Runtime::save_head_table() const {
  const std::optional<std::string> path = scheduler_->head_table();
  if (!path || scheduling_->stats().num_passes == 0) return;
  agree(comm_, [&] {
    if (comm_.rank() != 0) return;
    const std::vector<float>& largest = scheduling_->largest_scores();
    scheduling::HeadTable(*path, config_->num_layers, config_->num_kv_heads,
                          {largest.begin(), largest.end()})
        .write(*path);
  });
}

void Runtime::switch_scheduler(std::string_view scheduler, std::string_view budget_text) {
  agree(comm_, [&] {
    auto next = make_policy("scheduler", scheduling::schedulers(), scheduler);
    select_from_nothing(*next, *config_);
    scheduling_->switch_to(*next, parse_budget(budget_text));
    scheduler_ = std::move(next);
  });
}

void Runtime::check_maps() const {
  const std::uint64_t mine = expert_map_->hash() ^ (kv_map_->hash() << 1);
  std::vector<std::uint64_t> all(static_cast<std::size_t>(comm_.size()));
  comm_.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    require(all[rank] == all[0], "placement", "rank ", rank,
            " computed another shard map than rank 0; were the ranks given the same options?");
  }
}

}  // namespace pikv::launch
