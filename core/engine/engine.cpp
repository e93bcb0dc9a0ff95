// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/engine.hpp"

#include <algorithm>
#include <chrono>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Engine::Engine(const EngineParts& parts, const EngineConfig& config)
    : parts_(parts),
      config_(config),
      reread_pass_({.decoder = parts.decoder,
                    .cache = parts.cache,
                    .comm = parts.comm,
                    .tap = parts.tap,
                    .scheduling = parts.scheduling},
                   config.chunk_tokens, config.reread_prompt) {
  require(config.max_batch_sequences > 0, "engine",
          "max_batch_sequences = ", config.max_batch_sequences, " is not positive");
  require(config.chunk_tokens > 0, "engine", "chunk_tokens = ", config.chunk_tokens,
          " is not positive");
}

void Engine::check_request(const Request& request, std::size_t request_idx) const {
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  require(prompt_tokens > 0, "request", "prompt ", request_idx, " has no tokens");
  require(request.max_tokens > 0, "request", "max-tokens = ", request.max_tokens,
          " is not positive");
  require(prompt_tokens <= parts_.model.context_tokens, "request", "prompt ", request_idx, " has ",
          prompt_tokens, " tokens, the context of the model is ", parts_.model.context_tokens);
  const auto forced_tokens = static_cast<std::int64_t>(request.forced_tokens.size());
  // The last token of a text is given and not computed.
  require(prompt_tokens + forced_tokens <= parts_.model.context_tokens + 1, "request", "prompt ",
          request_idx, " of ", prompt_tokens, " tokens and ", forced_tokens,
          " forced ones do not fit the context of ", parts_.model.context_tokens);
  const std::int64_t context_tokens = request.context_tokens.value_or(prompt_tokens);
  require(context_tokens >= 0 && context_tokens <= prompt_tokens, "request", "context of ",
          context_tokens, " tokens in prompt ", request_idx, " of ", prompt_tokens);
  for (const auto* tokens : {&request.prompt, &request.forced_tokens}) {
    for (const TokenId token : *tokens) {
      require(token >= 0 && token < parts_.model.vocab_size, "request", "token ", token,
              " of prompt ", request_idx, " is outside the vocabulary of ",
              parts_.model.vocab_size);
    }
  }
  check_sampling_options(request.sampling);
}

void Engine::check_requests(std::span<const Request> requests) const {
  for (std::size_t i = 0; i < requests.size(); ++i) check_request(requests[i], i);
}

std::vector<Completion> Engine::run(std::span<const Request> requests,
                                    const TokenCallback& on_token,
                                    const ProgressCallback& on_step) {
  check_requests(requests);
  forget_finished();
  completions_.assign(requests.size(), {});
  num_admitted_ = 0;
  std::int64_t num_done = 0;
  std::int64_t num_known = 0;
  for (const Request& request : requests) {
    num_known += static_cast<std::int64_t>(request.prompt.size());
  }

  try {
    admit(requests);
    while (!active_.empty()) {
      const std::int64_t before = stats_.num_prefill_tokens + stats_.num_decode_tokens;
      step(requests);
      advance(requests, sampled_, on_token);
      schedule();
      admit(requests);
      num_done += stats_.num_prefill_tokens + stats_.num_decode_tokens - before;
      if (on_step) on_step(num_done, std::max(num_known, num_done));
    }
  } catch (...) {
    // The engine stays usable: what was running leaves the cache.
    for (const ActiveSequence& sequence : active_) finished_.push_back(sequence.id);
    active_.clear();
    forget_finished();
    throw;
  }
  if (!keep_finished_) forget_finished();
  return std::move(completions_);
}

void Engine::admit(std::span<const Request> requests) {
  while (num_admitted_ < requests.size() &&
         static_cast<std::int64_t>(active_.size()) < config_.max_batch_sequences) {
    const Request& request = requests[num_admitted_];
    active_.push_back({.id = id_from<SequenceId>(num_admitted_),
                       .tokens = request.prompt,
                       .num_prompt = static_cast<std::int64_t>(request.prompt.size()),
                       .num_context = request.context_tokens.value_or(
                           static_cast<std::int64_t>(request.prompt.size()))});
    active_.back().next_run = next_run(active_.back());
    parts_.cache.add_sequence(active_.back().id);
    ++num_admitted_;
  }
}

void Engine::step(std::span<const Request> requests) {
  const auto start = Clock::now();
  const std::uint64_t bytes_before = parts_.comm.stats().bytes_sent;
  const std::uint64_t weights_before = parts_.decoder.weight_bytes_read();
  const BatchPlan plan = plan_batch(active_, config_.chunk_tokens);
  const RankRows mine = rows_of_rank(plan, active_, parts_.comm.rank(), parts_.comm.size());
  parts_.decoder.forward(mine.rows);

  sampled_.assign(active_.size(), -1);
  const View<const float, 2> logits = parts_.decoder.logits(mine.last_rows);
  for (std::size_t i = 0; i < mine.last_rows.size(); ++i) {
    const std::size_t active_idx = mine.last_sequences[i];
    const ActiveSequence& sequence = active_[active_idx];
    sampled_[active_idx] = choose(
        {logits.row(static_cast<std::int64_t>(i)), static_cast<std::size_t>(logits.row_size())},
        sequence, requests[index(sequence.id)]);
  }
  parts_.comm.all_reduce(std::span<std::int64_t>(sampled_), ReduceOp::kMax);
  for (const SequenceSlice& slice : plan.slices) {
    active_[slice.active_idx].num_computed = slice.end;
  }

  ++stats_.num_steps;
  if (plan.is_decode) {
    ++stats_.num_decode_steps;
    stats_.num_decode_tokens += plan.num_tokens;
    stats_.decode_seconds += seconds_since(start);
    stats_.decode_bytes_sent += parts_.comm.stats().bytes_sent - bytes_before;
    stats_.decode_bytes_read +=
        parts_.decoder.weight_bytes_read() - weights_before + parts_.cache.page_bytes();
  } else {
    stats_.num_prefill_tokens += plan.num_tokens;
    stats_.prefill_seconds += seconds_since(start);
  }
}

TokenId Engine::choose(std::span<const float> logits, const ActiveSequence& sequence,
                       const Request& request) {
  const std::size_t num_generated = sequence.tokens.size() - request.prompt.size();
  if (logits_observer_) {
    logits_observer_(index(sequence.id), static_cast<std::int64_t>(num_generated), logits);
  }
  if (num_generated < request.forced_tokens.size()) return request.forced_tokens[num_generated];
  return sampler_.sample(logits, sequence.tokens, request.sampling, index(sequence.id),
                         sequence.tokens.size());
}

void Engine::advance(std::span<const Request> requests, const std::vector<std::int64_t>& sampled,
                     const TokenCallback& on_token) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    ActiveSequence& sequence = active_[i];
    const std::size_t request_idx = index(sequence.id);
    const Request& request = requests[request_idx];
    Completion& completion = completions_[request_idx];
    bool done = false;
    const auto finish = [&](FinishReason reason) {
      completion.reason = reason;
      done = true;
    };
    if (sampled[i] >= 0) {
      const auto token = static_cast<TokenId>(sampled[i]);
      if (std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
        finish(FinishReason::kStopToken);
      } else {
        completion.tokens.push_back(token);
        sequence.tokens.push_back(token);
        if (on_token && !on_token(request_idx, token)) {
          finish(FinishReason::kStopped);
        } else if (static_cast<std::int64_t>(completion.tokens.size()) >= request.max_tokens) {
          finish(FinishReason::kMaxTokens);
        } else if (sequence.num_computed >= parts_.model.context_tokens) {
          finish(FinishReason::kContext);
        }
      }
    }
    if (done) {
      completion.kv_bytes = parts_.cache.page_bytes(sequence.id);
      finished_.push_back(sequence.id);
      if (!keep_finished_) forget_finished();
      continue;
    }
    if (kept != i) active_[kept] = std::move(sequence);
    ++kept;
  }
  active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(kept), active_.end());
}

std::int64_t Engine::next_run(const ActiveSequence& sequence) const {
  if (!parts_.scheduling.scheduler().evicts()) return Scheduler::kNever;
  return parts_.scheduling.scheduler().next_run(sequence.num_computed, sequence.num_context,
                                                parts_.scheduling.budget());
}

void Engine::schedule() {
  for (ActiveSequence& sequence : active_) {
    if (sequence.num_computed < sequence.next_run) continue;
    if (parts_.scheduling.scheduler().needs().reread.is_wanted()) reread(sequence);
    parts_.scheduling.run({.id = sequence.id,
                           .num_computed = sequence.num_computed,
                           .num_context = sequence.num_context},
                          static_cast<std::int64_t>(active_.size()));
    sequence.next_run = next_run(sequence);
  }
}

void Engine::reread(const ActiveSequence& sequence) {
  const auto start = Clock::now();
  stats_.num_reread_tokens += reread_pass_.run(
      sequence.id,
      std::span(sequence.tokens).first(static_cast<std::size_t>(sequence.num_computed)));
  stats_.reread_seconds += seconds_since(start);
}

void Engine::forget_finished() {
  for (const SequenceId sequence : finished_) {
    parts_.cache.remove_sequence(sequence);
    parts_.tap.forget(sequence);
  }
  finished_.clear();
}

}  // namespace pikv
