// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/cell_runner.hpp"

#include <algorithm>
#include <chrono>

#include "launch/agreement.hpp"

namespace pikv::launch {
namespace {

/// Bytes that the questions held at their ends, a question: the mean over them, the sum over ranks.
double mean_kv_bytes(Communicator& comm, const std::vector<Completion>& completions) {
  std::int64_t bytes = 0;
  for (const Completion& completion : completions) {
    bytes += static_cast<std::int64_t>(completion.kv_bytes);
  }
  comm.all_reduce(std::span(&bytes, 1), ReduceOp::kSum);
  return static_cast<double>(bytes) / static_cast<double>(completions.size());
}

void add_score(std::vector<GroupResult>& groups, const std::string& name, Measure measure,
               double score) {
  auto group = std::ranges::find(groups, name, &GroupResult::group);
  if (group == groups.end()) {
    group = groups.insert(group, {.group = name, .scores = {}, .measure = measure});
  }
  group->scores.push_back(score);
}

}  // namespace

std::vector<Request> CellRunner::requests_of(const Runtime& runtime, Mode mode) const {
  Sharing sharing = mode == Mode::kAgnostic ? Sharing::kContext : Sharing::kNothing;
  if (update_cache_) sharing = Sharing::kConversation;
  return make_requests(samples_, mode, sharing, runtime.model().end_of_text);
}

std::vector<double> CellRunner::score_answers(const std::vector<Completion>& completions) const {
  std::vector<double> scores;
  for (const Sample& sample : samples_) {
    for (const Question& question : sample.questions) {
      scores.push_back(score(question, tokenizer_.decode(completions[scores.size()].tokens)));
    }
  }
  return scores;
}

void CellRunner::run_reference(Mode mode, const ProgressCallback& on_step) {
  RuntimeOptions options = options_;
  options.scheduler = "full";
  options.budget_text = "1.0";
  Runtime runtime(comm_, options);
  const std::vector<Request> requests = requests_of(runtime, mode);
  agree(comm_, [&] { runtime.engine().check_requests(requests); });
  ReferenceRows reference;
  static_cast<void>(
      run_row_means(runtime.engine(), comm_, requests, reference.keeper(requests), on_step));
  reference_ = std::move(reference);
}

CellResult CellRunner::run(const SweepCell& cell, const ProgressCallback& on_step) {
  if (measure_ == Measure::kKl && !reference_) run_reference(cell.mode, on_step);
  const auto start = std::chrono::steady_clock::now();
  RuntimeOptions options = options_;
  options.scheduler = cell.scheduler;
  options.budget_text = cell.budget;
  Runtime runtime(comm_, options);
  const std::vector<Request> requests = requests_of(runtime, cell.mode);
  agree(comm_, [&] { runtime.engine().check_requests(requests); });

  RowMeans outcome;  // a score and a completion a question
  if (measure_ == Measure::kScore) {
    outcome.completions = runtime.engine().run(requests, {}, on_step);
    outcome.means = score_answers(outcome.completions);
  } else {
    const RowFigure figure =
        measure_ == Measure::kKl ? reference_->divergence() : negative_log_likelihood(requests);
    outcome = run_row_means(runtime.engine(), comm_, requests, figure, on_step);
  }

  runtime.save_head_table();
  CellResult result;
  auto next = outcome.means.begin();
  for (const Sample& sample : samples_) {
    for (std::size_t i = 0; i < sample.questions.size(); ++i) {
      add_score(result.groups, sample.group, measure_, *next++);
    }
  }
  const SchedulingStats& stats = runtime.scheduling().stats();
  if (stats.num_passes > 0) {
    result.kept = static_cast<double>(stats.num_kept) /
                  static_cast<double>(stats.num_kept + stats.num_evicted);
  }
  result.kv_bytes = mean_kv_bytes(comm_, outcome.completions);
  result.scheduling_seconds = stats.seconds + runtime.engine().stats().reread_seconds;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace pikv::launch
