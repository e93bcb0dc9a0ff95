// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/cell_runner.hpp"

#include <algorithm>
#include <chrono>

#include "kernels/common/error.hpp"
#include "launch/agreement.hpp"
#include "launch/cache_report.hpp"

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

/// Slots that all tokens so far took, in all heads.
double num_slots_written(const Engine& engine, const ModelConfig& model) {
  const std::int64_t num_tokens =
      engine.stats().num_prefill_tokens + engine.stats().num_decode_tokens;
  return static_cast<double>(num_tokens * model.num_layers * model.num_kv_heads);
}

/// Given text is judged to its end or not at all.
void require_whole_texts(const std::vector<Completion>& completions,
                         const RuntimeOptions& options) {
  for (const Completion& completion : completions) {
    require(completion.reason != FinishReason::kContext, "eval", "scheduler '", options.scheduler,
            "' with budget ", options.budget_text,
            " fills the model's context before the end of a text");
  }
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
  std::vector<Request> requests =
      make_requests(samples_, mode, sharing, runtime.model().end_of_text);
  for (Request& request : requests) request.unbounded = options_.stream;
  return requests;
}

/// What the model generates after each context under the scheduler stands before its questions from
/// now on: reading it again puts the cache through the same steps.
void CellRunner::put_gaps(Runtime& runtime, std::vector<Request>& requests,
                          const ProgressCallback& on_step) const {
  std::vector<Request> contexts;
  for (const Sample& sample : samples_) {
    contexts.push_back({.prompt = sample.context, .max_tokens = gap_});
  }
  agree(comm_, [&] { runtime.engine().check_requests(contexts); });
  const std::vector<Completion> gaps = runtime.engine().run(contexts, {}, on_step);
  auto request = requests.begin();
  for (std::size_t i = 0; i < samples_.size(); ++i) {
    for (std::size_t q = 0; q < samples_[i].questions.size(); ++q, ++request) {
      if (request->start && request->start->with_answer) continue;
      const auto context_end =
          request->prompt.begin() + static_cast<std::ptrdiff_t>(samples_[i].context.size());
      request->prompt.insert(context_end, gaps[i].tokens.begin(), gaps[i].tokens.end());
    }
  }
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
  const RowMeans rows =
      run_row_means(runtime.engine(), comm_, requests, reference.keeper(requests), on_step);
  require_whole_texts(rows.completions, options);
  reference_ = std::move(reference);
}

RowFigure CellRunner::figure(std::span<const Request> requests) const {
  if (measure_ == Measure::kKl) return reference_->divergence();
  if (measure_ == Measure::kOutputError) return reference_->output_error();
  return negative_log_likelihood(requests);
}

CellResult CellRunner::run(const SweepCell& cell, const ProgressCallback& on_step) {
  if (compares_with_full_cache(measure_) && !reference_) run_reference(cell.mode, on_step);
  const auto start = std::chrono::steady_clock::now();
  RuntimeOptions options = options_;
  options.scheduler = cell.scheduler;
  options.budget_text = cell.budget;
  Runtime runtime(comm_, options);
  std::vector<Request> requests = requests_of(runtime, cell.mode);
  if (gap_ > 0) put_gaps(runtime, requests, on_step);
  agree(comm_, [&] { runtime.engine().check_requests(requests); });

  RowMeans outcome;  // a score and a completion a question
  if (measure_ == Measure::kScore) {
    outcome.completions = runtime.engine().run(requests, {}, on_step);
    outcome.means = score_answers(outcome.completions);
  } else {
    outcome = run_row_means(runtime.engine(), comm_, requests, figure(requests), on_step);
    require_whole_texts(outcome.completions, options);
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
  result.kept = 1 - static_cast<double>(stats.num_evicted) /
                        num_slots_written(runtime.engine(), runtime.model());
  const ReadStats reads = gather_read_stats(runtime);
  result.pages_read = reads.pages_share();
  result.attention_read = reads.attention_share();
  result.top_pages_read = reads.recall();
  result.kv_bytes = mean_kv_bytes(comm_, outcome.completions);
  result.scheduling_seconds = stats.seconds + runtime.engine().stats().reread_seconds;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace pikv::launch
