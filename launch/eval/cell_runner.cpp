// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/cell_runner.hpp"

#include <algorithm>
#include <chrono>

#include "core/comm/agreement.hpp"
#include "kernels/common/error.hpp"
#include "launch/cache_report.hpp"
#include "launch/eval/context_watch.hpp"
#include "launch/eval/hit_rate.hpp"
#include "launch/eval/plots/attention_plot.hpp"

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
  if (setting_.update_cache) sharing = Sharing::kConversation;
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
    contexts.push_back({.prompt = sample.context, .max_tokens = setting_.gap});
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

RuntimeOptions CellRunner::full_cache_options() const {
  RuntimeOptions options = options_;
  options.scheduler = "full";
  options.budget_text = "1.0";
  options.codec = "none";
  options.codec_k = options.codec_v = std::nullopt;
  options.kv_dtype = "f32";
  return options;
}

void CellRunner::run_reference(Mode mode, const ProgressCallback& on_step) {
  const RuntimeOptions options = full_cache_options();
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
  if (setting_.measure == Measure::kKl) return reference_->divergence();
  if (setting_.measure == Measure::kOutputError) return reference_->output_error();
  return negative_log_likelihood(requests);
}

CellResult CellRunner::run(const SweepCell& cell, const ProgressCallback& on_step) {
  // The compressed cache is gone before the full one comes.
  Run run = run_questions(cell, on_step);
  if (setting_.hit_rate) run.result.hit_rate = hit_rate(run, on_step);
  return std::move(run.result);
}

/// Of all queries from the first token of a question on; in mode aware from the one that the
/// scheduler ran before.
std::optional<double> CellRunner::hit_rate(const Run& run, const ProgressCallback& on_step) const {
  Runtime runtime(comm_, full_cache_options());
  HitRate rate(runtime, options_.chunk_tokens, on_step);
  std::size_t first_idx = 0;  // of the sample's requests
  for (const Sample& sample : samples_) {
    const std::size_t num_questions = sample.questions.size();
    for (std::size_t q = 0; q < num_questions; ++q) {
      const Request& request = run.requests[first_idx + q];
      const std::size_t question_begin = request.prompt.size() - sample.questions[q].tokens.size();
      const std::int64_t first_query =
          std::max(static_cast<std::int64_t>(question_begin), request.context_tokens.value_or(0));
      if (setting_.update_cache) {
        // The last sequence is all of them.
        rate.add(run.completions[first_idx + num_questions - 1], first_query);
        break;
      }
      rate.add(run.completions[first_idx + q], first_query);
    }
    first_idx += num_questions;
  }
  return rate.mean();
}

CellRunner::Run CellRunner::run_questions(const SweepCell& cell, const ProgressCallback& on_step) {
  if (compares_with_full_cache(setting_.measure) && !reference_) run_reference(cell.mode, on_step);
  const auto start = std::chrono::steady_clock::now();
  RuntimeOptions options = options_;
  options.scheduler = cell.scheduler;
  options.budget_text = cell.budget;
  options.codec = cell.codec;
  if (setting_.draws_maps) options.observed_queries = ContextWatch::kNumQueries;
  Runtime runtime(comm_, options);
  Run run{.result = {}, .requests = requests_of(runtime, cell.mode), .completions = {}};
  std::vector<Request>& requests = run.requests;
  if (setting_.gap > 0) put_gaps(runtime, requests, on_step);
  agree(comm_, [&] { runtime.engine().check_requests(requests); });
  runtime.engine().keep_histories(setting_.hit_rate);

  ContextWatch watch(runtime);
  if (setting_.draws_maps) runtime.engine().observe_contexts(&watch);
  RowMeans outcome;  // a score and a completion a question
  if (setting_.measure == Measure::kScore) {
    outcome.completions = runtime.engine().run(requests, {}, on_step);
    outcome.means = score_answers(outcome.completions);
  } else {
    outcome = run_row_means(runtime.engine(), comm_, requests, figure(requests), on_step);
    require_whole_texts(outcome.completions, options);
  }

  runtime.save_head_table();
  CellResult& result = run.result;
  if (setting_.draws_maps && comm_.rank() == 0) {
    result.map = attention_plot(cell, samples_.front(), watch.context());
  }
  auto next = outcome.means.begin();
  for (const Sample& sample : samples_) {
    for (std::size_t i = 0; i < sample.questions.size(); ++i) {
      add_score(result.groups, sample.group, setting_.measure, *next++);
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
  run.completions = std::move(outcome.completions);
  return run;
}

}  // namespace pikv::launch
