// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/random.hpp"
#include "core/comm/agreement.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/backend.hpp"
#include "launch/cache_report.hpp"
#include "launch/memory_bandwidth.hpp"
#include "launch/options.hpp"
#include "launch/program.hpp"
#include "launch/progress.hpp"
#include "launch/version.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::ordered_json;

/// Median and range of repeated measurements.
struct Sample {
  std::vector<double> values;

  [[nodiscard]] double median() const {
    std::vector<double> sorted = values;
    std::ranges::sort(sorted);
    const std::size_t n = sorted.size();
    return n % 2 == 1 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
  }
  [[nodiscard]] double low() const { return *std::ranges::min_element(values); }
  [[nodiscard]] double high() const { return *std::ranges::max_element(values); }
  [[nodiscard]] std::string to_text() const {
    return fmt::format("{:.1f} ({:.1f}-{:.1f})", median(), low(), high());
  }
  [[nodiscard]] Json to_json() const {
    return {{"median", median()}, {"min", low()}, {"max", high()}};
  }
};

/// One shape of the workload, measured.
struct Row {
  std::string scheduler{};
  std::int64_t batch = 0;
  std::int64_t context = 0;
  Sample prefill_tokens_per_s{};
  Sample decode_tokens_per_s{};
  Sample prefill_scheduling{};               // share of the time of prefill
  Sample decode_scheduling{};                // share of the time of decode
  Sample decode_read_gb_per_s{};             // of all ranks
  std::vector<std::uint64_t> kv_bytes{};     // by rank, at the end
  std::uint64_t decode_step_bytes_sent = 0;  // all ranks together
};

class Bench final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "bench"; }
  [[nodiscard]] std::string_view summary() const override {
    return "Measure prefill, decode, cache bytes and exchange bytes";
  }

  void add_options(CLI::App& app) override {
    add_runtime_options(app, options_);
    app.get_option("--scheduler")->description("Schedulers to measure in turn, a list");
    app.add_option("--batch", batches_, "Sequences that run together; a list")
        ->delimiter(',')
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--context", contexts_, "Prompt tokens a sequence; a list")
        ->delimiter(',')
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--decode-tokens", decode_tokens_, "Tokens generated a sequence")
        ->check(CLI::Range(2, 1 << 20))
        ->capture_default_str();
    app.add_option("--repeat", repeats_, "Measured runs, after one that warms up")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_flag("--json", json_, "Print one JSON object");
  }

  void run(Communicator& comm) override {
    options_.max_batch = *std::ranges::max_element(batches_);
    const std::vector<std::string> schedulers = split_policies(options_.scheduler);
    std::vector<std::unique_ptr<Runtime>> runtimes;
    for (const std::string& scheduler : schedulers) {
      RuntimeOptions options = options_;
      options.scheduler = scheduler;
      runtimes.push_back(std::make_unique<Runtime>(comm, options));
    }
    agree(comm, [&] {
      const std::int64_t longest = *std::ranges::max_element(contexts_) + decode_tokens_;
      const std::int64_t context = runtimes[0]->model().context_tokens;
      require(options_.stream || longest <= context, "context", "prompt and decode need ", longest,
              " tokens, the context of the model is ", context);
    });
    const double bandwidth = measure_read_bandwidth(runtimes[0]->host(), comm);
    if (comm.rank() == 0 && !json_) print_conditions(comm, bandwidth);

    ProgressBar bar("bench", comm.rank() == 0);
    const auto total =
        static_cast<std::int64_t>(batches_.size() * contexts_.size() * schedulers.size()) *
        (repeats_ + 1);
    std::int64_t done = 0;
    std::vector<Row> rows;
    for (const std::int64_t batch : batches_) {
      for (const std::int64_t context : contexts_) {
        const std::size_t first = rows.size();
        for (const std::string& scheduler : schedulers) {
          rows.push_back({.scheduler = scheduler, .batch = batch, .context = context});
        }
        // In turn, so that what else the machine does meets all of them.
        for (std::int64_t repeat = 0; repeat <= repeats_; ++repeat) {
          for (std::size_t i = 0; i < schedulers.size(); ++i) {
            measure(*runtimes[i], repeat > 0, rows[first + i]);
            bar.update(++done, total);
          }
        }
      }
    }
    bar.clear();
    if (comm.rank() != 0) return;
    if (json_) {
      fmt::print("{}\n", to_json(comm, bandwidth, rows).dump());
    } else {
      print_rows(rows, bandwidth);
    }
  }

 private:
  void measure(Runtime& runtime, bool counts, Row& row) const {
    Engine& engine = runtime.engine();
    Communicator& comm = runtime.comm();
    std::vector<Request> requests;
    for (std::int64_t b = 0; b < row.batch; ++b) {
      Request& request = requests.emplace_back();
      request.max_tokens = decode_tokens_;
      request.unbounded = options_.stream;
      for (std::int64_t t = 0; t < row.context; ++t) {
        request.prompt.push_back(static_cast<TokenId>(
            random_bits(0, static_cast<std::uint64_t>(b), static_cast<std::uint64_t>(t)) %
            static_cast<std::uint64_t>(runtime.model().vocab_size)));
      }
    }
    engine.keep_finished_sequences(true);
    const EngineStats before = engine.stats();
    comm.barrier();
    for (const Completion& completion : engine.run(requests)) {
      require(completion.reason == FinishReason::kMaxTokens, "bench",
              "the cache of a sequence fills the context of the model, ",
              runtime.model().context_tokens, " tokens, after ", completion.tokens.size(),
              " of its tokens; --budget must be smaller");
    }
    const EngineStats& after = engine.stats();
    if (!counts) return;

    const auto rate = [](std::int64_t tokens, double seconds) {
      return static_cast<double>(tokens) / std::max(seconds, 1e-9);
    };
    const double decode_seconds = after.decode_seconds - before.decode_seconds;
    row.prefill_tokens_per_s.values.push_back(
        rate(after.num_prefill_tokens - before.num_prefill_tokens,
             after.prefill_seconds - before.prefill_seconds));
    row.decode_tokens_per_s.values.push_back(
        rate(after.num_decode_tokens - before.num_decode_tokens, decode_seconds));
    row.prefill_scheduling.values.push_back(
        (after.prefill_scheduling_seconds - before.prefill_scheduling_seconds) /
        (after.prefill_seconds - before.prefill_seconds));
    row.decode_scheduling.values.push_back(
        (after.decode_scheduling_seconds - before.decode_scheduling_seconds) / decode_seconds);
    std::array<std::int64_t, 2> sums = {
        static_cast<std::int64_t>(after.decode_bytes_sent - before.decode_bytes_sent),
        static_cast<std::int64_t>(after.decode_bytes_read - before.decode_bytes_read)};
    comm.all_reduce(std::span<std::int64_t>(sums), ReduceOp::kSum);
    row.decode_step_bytes_sent = static_cast<std::uint64_t>(
        sums[0] / std::max<std::int64_t>(after.num_decode_steps - before.num_decode_steps, 1));
    row.decode_read_gb_per_s.values.push_back(static_cast<double>(sums[1]) / decode_seconds * 1e-9);
    row.kv_bytes.clear();
    for (const CacheStats& stats : gather_cache_report(runtime, 0).ranks) {
      row.kv_bytes.push_back(stats.page_bytes);
    }
  }

  void print_conditions(const Communicator& comm, double bandwidth) const {
    utsname system{};
    uname(&system);
    fmt::print("pikv {} bench {}\n", version(), describe(options_, comm.size()));
    fmt::print("{} {}, {} ({}), {} repeats, {} decode tokens a sequence\n", system.sysname,
               system.machine, kernels::cpu::describe_vector_unit(), kernels::cpu::describe_blas(),
               repeats_, decode_tokens_);
    fmt::print("memory reads at {:.1f} GB/s on {} ranks x {} threads\n\n", bandwidth, comm.size(),
               options_.num_threads.value_or(default_num_threads()));
  }

  static void print_rows(const std::vector<Row>& rows, double bandwidth) {
    std::size_t width = std::string_view("scheduler").size();
    for (const Row& row : rows) width = std::max(width, row.scheduler.size());
    fmt::print("{:<{}} {:>5} {:>7}  {:>26}  {:>26}  {:>11}  {:>16}  {:>22}  {:>13}\n", "scheduler",
               width, "batch", "context", "prefill tokens/s", "decode tokens/s", "scheduling",
               "decode reads", "KV bytes a rank", "sent a step");
    for (const Row& row : rows) {
      const double gb_per_s = row.decode_read_gb_per_s.median();
      const auto [least, most] = std::ranges::minmax(row.kv_bytes);
      fmt::print("{:<{}} {:>5} {:>7}  {:>26}  {:>26}  {:>11}  {:>16}  {:>22}  {:>13}\n",
                 row.scheduler, width, row.batch, row.context, row.prefill_tokens_per_s.to_text(),
                 row.decode_tokens_per_s.to_text(),
                 fmt::format("{:.1f} % {:.1f} %", 100 * row.prefill_scheduling.median(),
                             100 * row.decode_scheduling.median()),
                 fmt::format("{:.1f} GB/s {:.0f} %", gb_per_s, 100.0 * gb_per_s / bandwidth),
                 fmt::format("{} - {}", format_bytes(least), format_bytes(most)),
                 format_bytes(row.decode_step_bytes_sent));
    }
  }

  Json to_json(const Communicator& comm, double bandwidth, const std::vector<Row>& rows) const {
    Json json{{"version", version()},
              {"options", describe(options_, comm.size())},
              {"ranks", comm.size()},
              {"repeats", repeats_},
              {"decode_tokens", decode_tokens_},
              {"memory_read_gb_per_s", bandwidth}};
    for (const Row& row : rows) {
      json["rows"].push_back({{"scheduler", row.scheduler},
                              {"batch", row.batch},
                              {"context", row.context},
                              {"prefill_tokens_per_s", row.prefill_tokens_per_s.to_json()},
                              {"decode_tokens_per_s", row.decode_tokens_per_s.to_json()},
                              {"prefill_scheduling_share", row.prefill_scheduling.to_json()},
                              {"decode_scheduling_share", row.decode_scheduling.to_json()},
                              {"decode_read_gb_per_s", row.decode_read_gb_per_s.to_json()},
                              {"kv_bytes", row.kv_bytes},
                              {"decode_step_bytes_sent", row.decode_step_bytes_sent}});
    }
    return json;
  }

  RuntimeOptions options_;
  std::vector<std::int64_t> batches_ = {1, 8};
  std::vector<std::int64_t> contexts_ = {512, 2048};
  std::int64_t decode_tokens_ = 64;
  std::int64_t repeats_ = 5;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Program> make_bench_program() { return std::make_unique<Bench>(); }

}  // namespace pikv::launch
