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

void add_score(std::vector<GroupResult>& groups, const std::string& name, double score) {
  auto group = std::ranges::find(groups, name, &GroupResult::group);
  if (group == groups.end()) group = groups.insert(group, {.group = name, .scores = {}});
  group->scores.push_back(score);
}

}  // namespace

CellResult CellRunner::run(const SweepCell& cell, const ProgressCallback& on_step) {
  const auto start = std::chrono::steady_clock::now();
  RuntimeOptions options = options_;
  options.scheduler = cell.scheduler;
  options.budget_text = cell.budget;
  Runtime runtime(comm_, options);
  std::vector<Request> requests;
  for (const Sample& sample : samples_) {
    for (const Question& question : sample.questions) {
      requests.push_back(make_request(sample, question, cell.mode, runtime.model().end_of_text));
    }
  }
  agree(comm_, [&] { runtime.engine().check_requests(requests); });
  const std::vector<Completion> completions = runtime.engine().run(requests, {}, on_step);

  CellResult result;
  auto completion = completions.begin();
  for (const Sample& sample : samples_) {
    for (const Question& question : sample.questions) {
      add_score(result.groups, sample.group,
                score(question, tokenizer_.decode((completion++)->tokens)));
    }
  }
  const SchedulingStats& stats = runtime.scheduling().stats();
  if (stats.num_passes > 0) {
    result.kept = static_cast<double>(stats.num_kept) /
                  static_cast<double>(stats.num_kept + stats.num_evicted);
  }
  result.kv_bytes = mean_kv_bytes(comm_, completions);
  result.scheduling_seconds = stats.seconds;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace pikv::launch
