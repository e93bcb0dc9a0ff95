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

#include "core/base/random.hpp"
#include "kernels/common/error.hpp"
#include "kernels/fill.hpp"
#include "launch/agreement.hpp"
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
  std::uint64_t weight_bytes = 0;           // that a step reads
  std::uint64_t kv_bytes = 0;               // of pages, after the last step

  [[nodiscard]] double median() const { return milliseconds[milliseconds.size() / 2]; }
  [[nodiscard]] double host_median() const {
    return host_milliseconds[host_milliseconds.size() / 2];
  }
  /// What reading all of it once takes.
  [[nodiscard]] double floor(double gb_per_s) const {
    return static_cast<double>(weight_bytes + kv_bytes) / gb_per_s * 1e-6;
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
    app.add_flag("--json", json_, "Print one JSON object");
  }

  void run(Communicator& comm) override {
    agree(comm, [&] {
      require(comm.size() == 1, "bench-decode", "runs on one rank, not on ", comm.size());
      require(!options_.model.empty() || !options_.shape.empty(), "bench-decode",
              "give --model or --shape");
    });
    options_.max_batch = *std::ranges::max_element(batches_);
    Runtime runtime(comm, options_);
    const double gb_per_s = measure_copy_bandwidth(runtime.exec());
    if (!json_) print_conditions(runtime, gb_per_s);
    ProgressBar bar("bench-decode", true);
    std::vector<Row> rows;
    for (const std::int64_t batch : batches_) {
      for (const std::int64_t context : contexts_) {
        Row& row = rows.emplace_back(Row{.batch = batch, .context = context});
        measure(runtime, row);
        bar.update(std::ssize(rows), std::ssize(batches_) * std::ssize(contexts_));
      }
    }
    bar.clear();
    json_ ? fmt::print("{}\n", to_json(runtime, rows, gb_per_s).dump())
          : print_rows(rows, gb_per_s);
  }

 private:
  void measure(Runtime& runtime, Row& row) const {
    for (std::uint32_t s = 0; s < row.batch; ++s) {
      runtime.cache().add_sequence(SequenceId{s});
      fill(runtime, SequenceId{s}, row.context);
    }
    constexpr std::int64_t kWarmUp = 5;
    std::vector<TokenId> tokens(static_cast<std::size_t>(row.batch), 1);
    std::vector<std::int32_t> all;
    for (std::int32_t i = 0; i < row.batch; ++i) all.push_back(i);
    for (std::int64_t step = 0; step < kWarmUp + num_steps_; ++step) {
      StepRows rows;
      for (std::uint32_t s = 0; s < row.batch; ++s) {
        rows.push(tokens[s], SequenceId{s}, static_cast<Position>(row.context + step));
      }
      const std::uint64_t read_before = runtime.decoder().weight_bytes_read();
      const auto start = Clock::now();
      runtime.decoder().forward(rows);
      const Milliseconds host_time = Clock::now() - start;
      const std::span<const TokenId> chosen = runtime.decoder().greedy_tokens(all);
      tokens.assign(chosen.begin(), chosen.end());
      const Milliseconds time = Clock::now() - start;
      if (step < kWarmUp) continue;
      row.milliseconds.push_back(time.count());
      row.host_milliseconds.push_back(host_time.count());
      row.weight_bytes = runtime.decoder().weight_bytes_read() - read_before;
    }
    std::ranges::sort(row.milliseconds);
    std::ranges::sort(row.host_milliseconds);
    row.kv_bytes = runtime.cache().page_bytes();
    for (std::uint32_t s = 0; s < row.batch; ++s) {
      runtime.cache().remove_sequence(SequenceId{s});
    }
  }

  /// The first `count` positions of a new sequence.
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
        const std::int64_t num_rows = std::min(kFillRows, count - begin);
        std::vector<Position> positions;
        std::vector<ShardId> shards;
        for (std::int64_t i = begin; i < begin + num_rows; ++i) {
          positions.push_back(static_cast<Position>(i));
          shards.push_back(id_from<ShardId>(i / 64 % num_shards));
        }
        const std::vector<SequenceId> sequences(positions.size(), sequence);
        const std::array shape{num_rows, model.num_kv_heads, model.head_dim};
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

  void print_conditions(const Runtime& runtime, double gb_per_s) const {
    fmt::print("pikv {} bench-decode {}{}\n", version(), describe(options_, 1),
               options_.shape.empty() ? "" : fmt::format(" --shape {}", options_.shape.string()));
    for (const std::string& device : describe_cuda_devices()) fmt::print("{}\n", device);
    if (const auto limit = runtime.kv_limit_bytes()) {
      fmt::print("KV pages may take {:.2f} GB\n", static_cast<double>(*limit) * 1e-9);
    }
    fmt::print("a copy reads and writes at {:.0f} GB/s; {} steps\n\n", gb_per_s, num_steps_);
  }

  static void print_rows(const std::vector<Row>& rows, double gb_per_s) {
    fmt::print("{:>5} {:>8}  {:>24}  {:>8}  {:>10}  {:>9}  {:>14}  {:>12}  {:>12}\n", "batch",
               "context", "ms a step", "host ms", "tokens/s", "floor ms", "share of floor",
               "weights", "KV");
    for (const Row& row : rows) {
      const double floor = row.floor(gb_per_s);
      fmt::print(
          "{:>5} {:>8}  {:>24}  {:>8.2f}  {:>10.0f}  {:>9.2f}  {:>12.0f} %  {:>9.2f} GB  {:>9.2f} "
          "GB\n",
          row.batch, row.context,
          fmt::format("{:.2f} ({:.2f}-{:.2f})", row.median(), row.milliseconds.front(),
                      row.milliseconds.back()),
          row.host_median(), 1e3 * static_cast<double>(row.batch) / row.median(), floor,
          100 * floor / row.median(), static_cast<double>(row.weight_bytes) * 1e-9,
          static_cast<double>(row.kv_bytes) * 1e-9);
    }
  }

  [[nodiscard]] Json to_json(const Runtime& runtime, const std::vector<Row>& rows,
                             double gb_per_s) const {
    Json json{{"version", version()},
              {"options", describe(options_, 1)},
              {"shape", options_.shape.string()},
              {"devices", describe_cuda_devices()},
              {"copy_gb_per_s", gb_per_s},
              {"steps", num_steps_}};
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
                              {"kv_bytes", row.kv_bytes}});
    }
    return json;
  }

  RuntimeOptions options_;
  std::vector<std::int64_t> batches_ = {1};
  std::vector<std::int64_t> contexts_ = {512};
  std::int64_t num_steps_ = 20;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Program> make_bench_decode_program() { return std::make_unique<BenchDecode>(); }

}  // namespace pikv::launch
