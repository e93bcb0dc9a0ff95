// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "kernels/common/error.hpp"

namespace pikv::launch {
std::string_view name(Mode mode) { return mode == Mode::kAgnostic ? "agnostic" : "aware"; }

Mode parse_mode(std::string_view text) {
  for (const Mode mode : {Mode::kAgnostic, Mode::kAware}) {
    if (text == name(mode)) return mode;
  }
  throw InvalidArgument(fmt::format("mode: '{}' is neither agnostic nor aware", text));
}

std::vector<SweepCell> make_cells(const SweepLists& lists) {
  const std::vector<std::string> whole = {"1.0"};
  std::vector<SweepCell> cells;
  for (const Mode mode : lists.modes) {
    for (const std::string& scheduler : lists.schedulers) {
      for (const std::string& codec : lists.codecs) {
        for (const std::string& budget : scheduler == "full" ? whole : lists.budgets) {
          cells.push_back({.scheduler = scheduler, .budget = budget, .mode = mode, .codec = codec});
        }
      }
    }
  }
  return cells;
}

double GroupResult::correct() const { return std::accumulate(scores.begin(), scores.end(), 0.0); }

Request make_request(const Sample& sample, const Question& question, Mode mode,
                     const std::vector<TokenId>& stop_tokens) {
  Request request{
      .prompt = sample.context, .max_tokens = question.max_tokens, .stop_tokens = stop_tokens};
  if (!question.continuation.empty()) {
    request.max_tokens = static_cast<std::int64_t>(question.continuation.size());
    request.forced_tokens = question.continuation;
    request.stop_tokens.clear();
  }
  request.prompt.insert(request.prompt.end(), question.tokens.begin(), question.tokens.end());
  request.context_tokens = static_cast<std::int64_t>(
      mode == Mode::kAgnostic ? sample.context.size() : request.prompt.size() - 1);
  return request;
}

std::vector<Request> make_requests(const std::vector<Sample>& samples, Mode mode, Sharing sharing,
                                   const std::vector<TokenId>& stop_tokens) {
  std::vector<Request> requests;
  for (const Sample& sample : samples) {
    const std::size_t first_idx = requests.size();
    // A sequence without a question has nothing to compute from a copy of its context.
    const bool can_share =
        !sample.context.empty() &&
        std::ranges::none_of(sample.questions, [](const Question& q) { return q.tokens.empty(); });
    for (const Question& question : sample.questions) {
      Request request = make_request(sample, question, mode, stop_tokens);
      const std::size_t request_idx = requests.size();
      if (request_idx > first_idx && sharing == Sharing::kConversation) {
        request.start = {.request_idx = request_idx - 1, .with_answer = true};
        request.prompt = question.tokens;
        request.context_tokens.reset();
      } else if (request_idx > first_idx && sharing == Sharing::kContext && can_share) {
        request.start = {.request_idx = first_idx};
      }
      requests.push_back(std::move(request));
    }
  }
  return requests;
}

}  // namespace pikv::launch
