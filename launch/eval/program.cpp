// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/program.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include "compression/compose.hpp"
#include "core/comm/agreement.hpp"
#include "core/io/tokenizer/tokenizer.hpp"
#include "kernels/common/error.hpp"
#include "launch/eval/cell_runner.hpp"
#include "launch/eval/plots/plots.hpp"
#include "launch/eval/report.hpp"
#include "launch/eval/results.hpp"
#include "launch/eval/spread.hpp"
#include "launch/eval/sweep.hpp"
#include "launch/eval/tasks.hpp"
#include "launch/options.hpp"
#include "launch/progress.hpp"
#include "launch/version.hpp"
#include "scheduling/tables.hpp"

namespace pikv::launch {
namespace {

class Eval final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "eval"; }
  [[nodiscard]] std::string_view summary() const override {
    return "Answer questions about long contexts under schedulers and budgets";
  }

  void add_options(CLI::App& app) override {
    add_runtime_options(app, options_);
    app.get_option("--scheduler")->description("Schedulers to compare, a list");
    app.get_option("--budget")->description("Budgets: fractions kept or slots a head, a list");
    app.get_option("--codec")->description("Forms of full pages, a list (pikv info)");
    app.add_option("--task", task_, "What is asked: a name of the task table, with options")
        ->capture_default_str();
    app.add_option("--ids-file,--task-file", file_, "The file of the tasks that read one");
    app.add_option("--text-file", text_file_, "UTF-8 text that hides needles or goes on");
    app.add_option("--samples", num_samples_, "Samples of each length and depth, or of each group")
        ->check(CLI::Range(0, 1 << 30))
        ->capture_default_str();
    app.add_option("--length", lengths_, "Tokens of a context, a list")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--depth", depths_, "Where the answer stands, 0 to 1, a list [drawn]")
        ->delimiter(',');
    app.add_option("--mode", modes_,
                   "agnostic: compressed before the question is read; aware: after")
        ->delimiter(',')
        ->capture_default_str();
    app.add_option("--gap", gap_,
                   "Tokens that the model generates between a context and its question, under the "
                   "same scheduler")
        ->check(CLI::Range(0, 1 << 30))
        ->capture_default_str();
    app.add_flag("--update-cache", update_cache_,
                 "Ask the questions of a sample one after another; each and its answer stay");
    app.add_flag("--hit-rate", hit_rate_,
                 "Measure the share of a full cache's attention that falls on what is held, by a "
                 "second run over the same tokens");
    app.add_option("--seed", seed_, "Of the samples")->capture_default_str();
    app.add_option("--output", output_,
                   "File of finished cells, JSON lines; those found there are not run again");
    app.add_option("--spread", spread_,
                   "What is divided over the ranks: model (each cell runs on all) or cells (each "
                   "runs on one rank, which holds the whole model)")
        ->check(CLI::IsMember({"model", "cells"}))
        ->capture_default_str();
    CLI::Option* json = app.add_flag("--json", json_, "Print a JSON line for each cell");
    app.add_flag("--csv", csv_, "Print the table as CSV, a line for each group of each cell")
        ->excludes(json);
    app.add_option("--plots", plots_,
                   "Folder for plots (SVG): scores against KV bytes, scores by length and depth");
    app.add_option(
        "--maps", maps_,
        "Folder for maps (SVG), one a cell: what the newest queries of the first context "
        "attend to in each head, and what was evicted");
  }

  void run(Communicator& comm) override {
    agree(comm, [&] {
      cells_ = parse_cells();
      tokenizer_.emplace(Tokenizer::from_file(options_.model / "tokenizer.json"));
      TaskOptions task_options{
          .seed = seed_, .num_samples = num_samples_, .lengths = lengths_, .depths = depths_};
      if (file_) task_options.file = *file_;
      if (text_file_) task_options.text_file = *text_file_;
      const auto task = make_policy<Task>("task", tasks(), task_);
      measure_ = task->measure();
      check_modes(*task);
      check_gap(*task);
      require(!hit_rate_ || !options_.stream, "hit-rate",
              "a sequence that outgrows the model's context has no full cache beside it, so not "
              "with --stream");
      samples_ = task->samples(*tokenizer_, task_options);
    });
    results_.resize(cells_.size());
    agree(comm, [&] {
      if (comm.rank() != 0) return;
      if (output_) finished_.emplace(*output_, setting());
      for (const auto& folder : {plots_, maps_}) {
        if (folder) make_plot_folder(*folder);
      }
    });
    const std::vector<std::size_t> pending = find_pending(comm);
    ProgressBar bar("eval", comm.rank() == 0);
    if (spread_ == "cells") {
      run_alone(comm, pending, bar);
    } else {
      run_together(comm, pending, bar);
    }
    bar.clear();
    agree(comm, [&] {
      if (comm.rank() != 0) return;
      print(comm);
      if (plots_) write_plots(*plots_, samples_, cells_, results_);
    });
  }

 private:
  /// Where tokens are given, the context is all there is to know before the first of them.
  void check_modes(const Task& task) const {
    for (const SweepCell& cell : cells_) {
      if (!update_cache_ || cell.mode == Mode::kAgnostic) continue;
      throw InvalidArgument(
          fmt::format("update-cache: the first question is not the only one, so "
                      "the mode is {}, not {}",
                      launch::name(Mode::kAgnostic), launch::name(cell.mode)));
    }
    if (task.measure() == Measure::kScore) return;
    for (const SweepCell& cell : cells_) {
      if (cell.mode == Mode::kAgnostic) continue;
      throw InvalidArgument(fmt::format("{}: it asks no question, so its mode is {}, not {}",
                                        task.name(), launch::name(Mode::kAgnostic),
                                        launch::name(cell.mode)));
    }
  }

  /// A question that is part of what is compressed has nothing before it.
  void check_gap(const Task& task) const {
    if (gap_ == 0) return;
    require(task.measure() == Measure::kScore, "gap", "task ", task.name(), " asks no question");
    for (const SweepCell& cell : cells_) {
      require(cell.mode == Mode::kAgnostic, "gap", "the question comes after it, so its mode is ",
              launch::name(Mode::kAgnostic), ", not ", launch::name(cell.mode));
    }
  }

  /// The cells to run: rank 0 knows what is finished, and all skip the same cells.
  std::vector<std::size_t> find_pending(Communicator& comm) {
    std::vector<std::int64_t> is_done(cells_.size());
    agree(comm, [&] {
      for (std::size_t i = 0; i < cells_.size() && comm.rank() == 0; ++i) {
        const bool has_map = !maps_ || std::filesystem::exists(map_path(*maps_, cells_[i]));
        const CellResult* found = finished_ ? finished_->find(cells_[i]) : nullptr;
        if (found == nullptr || !has_map) continue;
        is_done[i] = 1;
        results_[i] = *found;
      }
    });
    comm.all_reduce(std::span<std::int64_t>(is_done), ReduceOp::kMax);
    std::vector<std::size_t> pending;
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      if (is_done[i] == 0) pending.push_back(i);
    }
    return pending;
  }

  /// On rank 0. The map comes first: a cell without one is run again.
  void take(std::size_t cell_idx, CellResult result) {
    const SweepCell& cell = cells_[cell_idx];
    if (maps_) write_map(*maps_, cell, result);
    if (finished_ && finished_->find(cell) == nullptr) finished_->append(cell, result);
    results_[cell_idx] = std::move(result);
  }

  /// One cell after another, its model divided over the ranks.
  void run_together(Communicator& comm, const std::vector<std::size_t>& pending, ProgressBar& bar) {
    CellRunner runner(comm, options_, *tokenizer_, samples_, cell_setting());
    for (std::size_t i = 0; i < pending.size(); ++i) {
      CellResult result = runner.run(cells_[pending[i]], [&](std::int64_t done, std::int64_t all) {
        bar.update(static_cast<std::int64_t>(i) * all + done,
                   static_cast<std::int64_t>(pending.size()) * all);
      });
      agree(comm, [&] {
        if (comm.rank() == 0) take(pending[i], std::move(result));
      });
    }
  }

  /// Each cell on one rank, which has the whole model.
  void run_alone(Communicator& comm, const std::vector<std::size_t>& pending, ProgressBar& bar) {
    const std::unique_ptr<Communicator> alone = make_single_communicator();
    CellRunner runner(*alone, options_, *tokenizer_, samples_, cell_setting());
    std::int64_t num_done = 0;
    spread_cells(
        comm, pending,
        [&](std::size_t cell_idx, const std::stop_token& stop) {
          return runner.run(cells_[cell_idx], [&](std::int64_t, std::int64_t) {
            if (stop.stop_requested()) throw Error("the cell was stopped");
          });
        },
        [&](std::size_t cell_idx, CellResult result) {
          take(cell_idx, std::move(result));
          bar.update(++num_done, static_cast<std::int64_t>(pending.size()));
        });
  }

  [[nodiscard]] CellSetting cell_setting() const {
    return {.measure = measure_,
            .gap = gap_,
            .update_cache = update_cache_,
            .draws_maps = maps_.has_value(),
            .hit_rate = hit_rate_};
  }

  void print(const Communicator& comm) const {
    if (json_) {
      for (std::size_t i = 0; i < cells_.size(); ++i) {
        fmt::print("{}\n", to_json_line(cells_[i], results_[i], setting()));
      }
    } else if (csv_) {
      fmt::print("{}", to_csv(task_, cells_, results_));
    } else {
      fmt::print("pikv {} eval --task {} --gap {} --seed {} {}\n\n{}", version(), task_, gap_,
                 seed_, describe(options_, comm.size()), to_table(cells_, results_));
    }
  }

  [[nodiscard]] std::vector<SweepCell> parse_cells() const {
    std::vector<Mode> modes;
    for (const std::string& text : modes_) modes.push_back(parse_mode(text));
    std::vector<std::string> budgets;
    for (const std::string& text : split_policies(options_.budget_text)) {
      static_cast<void>(parse_budget(text));
      budgets.push_back(text);
    }
    const std::vector<std::string> schedulers = split_policies(options_.scheduler);
    for (const std::string& text : schedulers) {
      static_cast<void>(make_policy("scheduler", scheduling::schedulers(), text));
    }
    const std::vector<std::string> codecs = split_policies(options_.codec);
    for (const std::string& text : codecs) static_cast<void>(compression::make_codec(text));
    return make_cells(
        {.schedulers = schedulers, .budgets = budgets, .codecs = codecs, .modes = modes});
  }

  /// Everything that a result depends on but its cell.
  [[nodiscard]] std::string setting() const {
    RuntimeOptions common = options_;
    common.scheduler = "*";
    common.budget_text = "*";
    common.codec = "*";
    common.num_threads = 0;  // changes the speed, not the answers
    return fmt::format(
        "--task {} --file {} --text-file {} --samples {} --length {} --depth {} --gap {} "
        "--seed {}{}{} {}",
        task_, file_.value_or("-"), text_file_.value_or("-"), num_samples_,
        fmt::join(lengths_, ","), fmt::join(depths_, ","), gap_, seed_,
        update_cache_ ? " --update-cache" : "", hit_rate_ ? " --hit-rate" : "",
        describe(common, 0));
  }

  RuntimeOptions options_;
  std::string task_ = "passkey";
  std::optional<std::string> file_;
  std::optional<std::string> text_file_;
  std::int64_t num_samples_ = 8;
  std::vector<std::int64_t> lengths_ = {1024};
  std::vector<double> depths_;
  std::vector<std::string> modes_ = {"agnostic"};
  std::int64_t gap_ = 0;
  bool update_cache_ = false;
  bool hit_rate_ = false;
  std::uint64_t seed_ = 0;
  std::optional<std::string> output_;
  bool json_ = false;
  bool csv_ = false;
  std::optional<std::string> plots_;
  std::optional<std::string> maps_;
  std::string spread_ = "model";

  std::optional<Tokenizer> tokenizer_;
  std::vector<SweepCell> cells_;
  std::vector<Sample> samples_;
  Measure measure_ = Measure::kScore;
  std::vector<CellResult> results_;     // by cell; complete on rank 0
  std::optional<ResultFile> finished_;  // on rank 0, with --output
};

}  // namespace

std::unique_ptr<Program> make_eval_program() { return std::make_unique<Eval>(); }

}  // namespace pikv::launch
