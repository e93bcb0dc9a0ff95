// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The time of a decode step over contexts that nobody computed: their keys and values are random.
// So long contexts of large models are measured without their prefill, and with --shape without
// their weights.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/base/random.hpp"
#include "core/comm/agreement.hpp"
#include "kernels/common/error.hpp"
#include "kernels/fill.hpp"
#include "launch/memory_bandwidth.hpp"
#include "launch/options.hpp"
#include "launch/program.hpp"
#include "launch/progress.hpp"
#include "launch/shapes.hpp"
#include "launch/version.hpp"

namespace pikv::launch {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kFillRows = 1024;  // appended at once

struct Row {
  std::int64_t batch = 0;
  std::int64_t context = 0;
  std::vector<double> milliseconds{};       // of each step, ascending
  std::vector<double> host_milliseconds{};  // until the host had enqueued it, ascending
  std::uint64_t weight_bytes = 0;           // that a step reads on rank 0
  std::uint64_t exchange_bytes = 0;         // that a step sends between ranks, of all of them
  std::vector<std::uint64_t> kv_bytes{};    // of pages, after the last step, by rank
  GraphCounts graphs{};                     // of the measured steps, of rank 0

  [[nodiscard]] double median() const { return milliseconds[milliseconds.size() / 2]; }
  [[nodiscard]] double host_median() const {
    return host_milliseconds[host_milliseconds.size() / 2];
  }
  [[nodiscard]] std::uint64_t most_kv_bytes() const { return *std::ranges::max_element(kv_bytes); }
  /// What reading all of it once takes, where most of it is.
  [[nodiscard]] double floor(double gb_per_s) const {
    return static_cast<double>(weight_bytes + most_kv_bytes()) / gb_per_s * 1e-6;
  }
};

class BenchDecode final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "bench-decode"; }
  [[nodiscard]] std::string_view summary() const override {
    return "Measure decode steps over contexts of random keys and values";
  }

  void add_options(CLI::App& app) override {
    add_runtime_options(app, options_);
    app.get_option("--model")->required(false);
    app.add_option(
           "--shape", options_.shape,
           fmt::format("Instead of --model: a folder with a config.json, that file, or one of {}; "
                       "weights are random",
                       fmt::join(shape_names(), ", ")))
        ->excludes("--model");
    app.add_option("--batch", batches_, "Sequences that decode together; a list")
        ->delimiter(',')
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--context", contexts_, "Tokens a sequence; a list")
        ->delimiter(',')
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--steps", num_steps_, "Measured steps, after five that warm up")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--graphs", graphs_, "Whether a GPU takes steps as CUDA graphs")
        ->check(CLI::IsMember({"on", "off"}))
        ->capture_default_str();
    app.add_flag("--json", json_, "Print one JSON object");
  }

  void run(Communicator& comm) override {
    agree(comm, [&] {
      require(!options_.model.empty() || !options_.shape.empty(), "bench-decode",
              "give --model or --shape");
    });
    options_.max_batch = *std::ranges::max_element(batches_);
    Runtime runtime(comm, options_);
    runtime.exec().use_graphs(graphs_ == "on");
    const double gb_per_s = measure_copy_bandwidth(runtime.exec());
    const bool prints = comm.rank() == 0;
    if (prints && !json_) print_conditions(runtime, gb_per_s);
    ProgressBar bar("bench-decode", prints);
    std::vector<Row> rows;
    for (const std::int64_t batch : batches_) {
      for (const std::int64_t context : contexts_) {
        Row& row = rows.emplace_back(Row{.batch = batch, .context = context});
        measure(runtime, row);
        bar.update(std::ssize(rows), std::ssize(batches_) * std::ssize(contexts_));
      }
    }
    bar.clear();
    if (!prints) return;
    if (json_) {
      fmt::print("{}\n", to_json(runtime, rows, gb_per_s).dump());
    } else {
      print_rows(rows, gb_per_s);
    }
  }

 private:
  void measure(Runtime& runtime, Row& row) const {
    for (std::uint32_t s = 0; s < row.batch; ++s) {
      runtime.cache().add_sequence(SequenceId{s});
      fill(runtime, SequenceId{s}, row.context);
    }
    constexpr std::int64_t kWarmUp = 5;
    Communicator& comm = runtime.comm();
    const auto bytes_sent = [&] {
      return comm.stats().bytes_sent + runtime.decoder().bytes_sent();
    };
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(row.batch), 1);
    for (std::int64_t step = 0; step < kWarmUp + num_steps_; ++step) {
      const StepRows rows = rows_of_step(comm, tokens, static_cast<Position>(row.context + step),
                                         runtime.decoder().shares_rows(row.batch));
      const std::vector<std::int32_t> mine = own_rows(comm, rows);
      comm.barrier();
      const std::uint64_t read_before = runtime.decoder().weight_bytes_read();
      const std::uint64_t sent_before = bytes_sent();
      const auto start = Clock::now();
      runtime.decoder().forward(rows);
      const Milliseconds host_time = Clock::now() - start;
      const std::span<const TokenId> chosen = runtime.decoder().greedy_tokens(mine);
      tokens.assign(tokens.size(), -1);
      for (std::size_t i = 0; i < mine.size(); ++i) {
        tokens[index(rows.sequences[static_cast<std::size_t>(mine[i])])] = chosen[i];
      }
      comm.all_reduce(std::span(tokens), ReduceOp::kMax);
      const Milliseconds time = Clock::now() - start;
      if (step < kWarmUp) {
        row.graphs = runtime.exec().graph_counts();
        continue;
      }
      row.milliseconds.push_back(time.count());
      row.host_milliseconds.push_back(host_time.count());
      row.weight_bytes = runtime.decoder().weight_bytes_read() - read_before;
      row.exchange_bytes = bytes_sent() - sent_before;
    }
    const GraphCounts graphs = runtime.exec().graph_counts();
    row.graphs = {.num_launches = graphs.num_launches - row.graphs.num_launches,
                  .num_params_set = graphs.num_params_set - row.graphs.num_params_set,
                  .num_graphs = graphs.num_graphs - row.graphs.num_graphs};
    std::ranges::sort(row.milliseconds);
    std::ranges::sort(row.host_milliseconds);
    auto total = static_cast<std::int64_t>(row.exchange_bytes);
    comm.all_reduce(std::span(&total, 1), ReduceOp::kSum);
    row.exchange_bytes = static_cast<std::uint64_t>(total);
    const std::uint64_t kv_bytes = runtime.cache().page_bytes();
    row.kv_bytes.resize(static_cast<std::size_t>(comm.size()));
    comm.all_gather(std::as_bytes(std::span(&kv_bytes, 1)),
                    std::as_writable_bytes(std::span(row.kv_bytes)));
    for (std::uint32_t s = 0; s < row.batch; ++s) {
      runtime.cache().remove_sequence(SequenceId{s});
    }
  }

  /// One token of each sequence, on its home rank, or on all.
  static StepRows rows_of_step(const Communicator& comm, const std::vector<std::int64_t>& tokens,
                               Position position, bool shared) {
    StepRows rows;
    rows.is_shared = shared;
    for (int rank = 0; rank < comm.size(); ++rank) {
      rows.all.first_row.push_back(rows.all.size());
      for (auto s = static_cast<std::size_t>(rank); s < tokens.size();
           s += static_cast<std::size_t>(comm.size())) {
        const auto sequence = id_from<SequenceId>(s);
        rows.all.sequences.push_back(sequence);
        rows.all.positions.push_back(position);
        if (rank != comm.rank() && !shared) continue;
        rows.push(static_cast<TokenId>(tokens[s]), sequence, position);
      }
    }
    rows.all.first_row.push_back(rows.all.size());
    return rows;
  }

  /// Subscripts of the rows whose next token this rank chooses.
  static std::vector<std::int32_t> own_rows(const Communicator& comm, const StepRows& rows) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    const std::int64_t first = rows.all.first_row[rank];
    std::vector<std::int32_t> mine(static_cast<std::size_t>(rows.all.first_row[rank + 1] - first));
    std::iota(mine.begin(), mine.end(), rows.is_shared ? static_cast<std::int32_t>(first) : 0);
    return mine;
  }

  /// Of the first `count` positions of a new sequence, those that this rank holds.
  static void fill(Runtime& runtime, SequenceId sequence, std::int64_t count) {
    Exec& exec = runtime.exec();
    const ModelConfig& model = runtime.model();
    const std::int64_t row_size = model.num_kv_heads * model.head_dim;
    DeviceBuffer<float> keys(exec.device(), static_cast<std::size_t>(kFillRows * row_size));
    DeviceBuffer<float> values(exec.device(), keys.size());
    for (DeviceBuffer<float>* rows : {&keys, &values}) {
      kernels::fill_uniform(exec, {.data = rows->data(),
                                   .dtype = DType::kF32,
                                   .count = kFillRows * row_size,
                                   .limit = 1.0f,
                                   .seed = mix_bits(index(sequence))});
    }
    const std::int64_t num_shards = runtime.kv_map().num_shards();
    for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
      for (std::int64_t begin = 0; begin < count; begin += kFillRows) {
        std::vector<Position> positions;
        std::vector<ShardId> shards;
        for (std::int64_t i = begin; i < std::min(begin + kFillRows, count); ++i) {
          const auto shard = id_from<ShardId>(i / 64 % num_shards);
          const int owner = runtime.kv_map().rank_of(id_from<LayerId>(layer), shard);
          if (owner != runtime.comm().rank()) continue;
          positions.push_back(static_cast<Position>(i));
          shards.push_back(shard);
        }
        const std::vector<SequenceId> sequences(positions.size(), sequence);
        const std::array shape{std::ssize(positions), model.num_kv_heads, model.head_dim};
        const AppendResult result = runtime.cache().append({.layer = id_from<LayerId>(layer),
                                                            .sequences = sequences,
                                                            .positions = positions,
                                                            .shards = shards,
                                                            .keys = {keys.data(), shape},
                                                            .values = {values.data(), shape}});
        if (result == AppendResult::kPoolFull) {
          throw OutOfMemory(concat("bench-decode: the pool is full after ", begin,
                                   " tokens of layer ", layer, "; raise --kv-memory"));
        }
      }
    }
  }

  void print_conditions(Runtime& runtime, double gb_per_s) const {
    fmt::print("pikv {} bench-decode {}{}\n", version(), describe(options_, runtime.comm().size()),
               options_.shape.empty() ? "" : fmt::format(" --shape {}", options_.shape.string()));
    if (const std::string text = describe(runtime.exchange()); !text.empty()) {
      fmt::print("{}\n", text);
    }
    for (const std::string& device : describe_cuda_devices()) fmt::print("{}\n", device);
    if (const auto limit = runtime.kv_limit_bytes()) {
      fmt::print("KV pages may take {:.2f} GB\n", static_cast<double>(*limit) * 1e-9);
    }
    fmt::print("a copy reads and writes at {:.0f} GB/s; {} steps\n\n", gb_per_s, num_steps_);
  }

  static void print_rows(const std::vector<Row>& rows, double gb_per_s) {
    fmt::print("{:>5} {:>8}  {:>24}  {:>8}  {:>10}  {:>9}  {:>14}  {:>12}  {:>12}  {:>12}\n",
               "batch", "context", "ms a step", "host ms", "tokens/s", "floor ms", "share of floor",
               "weights", "KV", "exchanged");
    for (const Row& row : rows) {
      const double floor = row.floor(gb_per_s);
      fmt::print(
          "{:>5} {:>8}  {:>24}  {:>8.2f}  {:>10.0f}  {:>9.2f}  {:>12.0f} %  {:>9.2f} GB  {:>9.2f} "
          "GB  {:>9.2f} MB\n",
          row.batch, row.context,
          fmt::format("{:.2f} ({:.2f}-{:.2f})", row.median(), row.milliseconds.front(),
                      row.milliseconds.back()),
          row.host_median(), 1e3 * static_cast<double>(row.batch) / row.median(), floor,
          100 * floor / row.median(), static_cast<double>(row.weight_bytes) * 1e-9,
          static_cast<double>(row.most_kv_bytes()) * 1e-9,
          static_cast<double>(row.exchange_bytes) * 1e-6);
    }
    for (const Row& row : rows) {
      if (row.graphs.num_launches == 0) continue;
      fmt::print("{} x {}: {} launches in graphs, {} of them set anew, {} graphs made\n", row.batch,
                 row.context, row.graphs.num_launches, row.graphs.num_params_set,
                 row.graphs.num_graphs);
    }
  }

  [[nodiscard]] Json to_json(Runtime& runtime, const std::vector<Row>& rows,
                             double gb_per_s) const {
    const ChosenExchange& chosen = runtime.exchange();
    Json json{{"version", version()},
              {"options", describe(options_, runtime.comm().size())},
              {"ranks", runtime.comm().size()},
              {"exchange", chosen.exchange ? chosen.exchange->name() : "messages"},
              {"exchange_reason", chosen.reason},
              {"shape", options_.shape.string()},
              {"devices", describe_cuda_devices()},
              {"copy_gb_per_s", gb_per_s},
              {"steps", num_steps_},
              {"graphs", graphs_}};
    if (const auto limit = runtime.kv_limit_bytes()) json["kv_limit_bytes"] = *limit;
    for (const Row& row : rows) {
      json["rows"].push_back({{"batch", row.batch},
                              {"context", row.context},
                              {"ms", row.median()},
                              {"ms_min", row.milliseconds.front()},
                              {"ms_max", row.milliseconds.back()},
                              {"host_ms", row.host_median()},
                              {"floor_ms", row.floor(gb_per_s)},
                              {"weight_bytes", row.weight_bytes},
                              {"kv_bytes", row.most_kv_bytes()},
                              {"kv_bytes_by_rank", row.kv_bytes},
                              {"exchange_bytes", row.exchange_bytes},
                              {"graph_launches", row.graphs.num_launches},
                              {"graph_launches_set", row.graphs.num_params_set},
                              {"graphs_made", row.graphs.num_graphs}});
    }
    return json;
  }

  RuntimeOptions options_;
  std::vector<std::int64_t> batches_ = {1};
  std::vector<std::int64_t> contexts_ = {512};
  std::int64_t num_steps_ = 20;
  std::string graphs_ = "on";
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Program> make_bench_decode_program() { return std::make_unique<BenchDecode>(); }

}  // namespace pikv::launch
