// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/engine.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "core/engine/fit_sequence.hpp"
#include "core/engine/fork.hpp"
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
                   config.chunk_tokens, config.reread_prompt),
      num_switches_(parts.scheduling.num_switches()) {
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
  check_length(request, request_idx);
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

void Engine::check_length(const Request& request, std::size_t request_idx) const {
  const std::int64_t limit = parts_.model.context_tokens;
  const auto prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  const auto forced_tokens = static_cast<std::int64_t>(request.forced_tokens.size());
  if (!request.unbounded) {
    require(prompt_tokens <= limit, "request", "prompt ", request_idx, " has ", prompt_tokens,
            " tokens, the context of the model is ", limit);
    // The last token of a text is given and not computed.
    require(prompt_tokens + forced_tokens <= limit + 1, "request", "prompt ", request_idx, " of ",
            prompt_tokens, " tokens and ", forced_tokens, " forced ones do not fit the context of ",
            limit);
    return;
  }
  require(prompt_tokens + request.max_tokens <= kNoPosition, "request", "prompt ", request_idx,
          " of ", prompt_tokens, " tokens and max-tokens = ", request.max_tokens, " exceed the ",
          kNoPosition, " positions of the cache");
  const std::int64_t first_run =
      next_run({.id = SequenceId{0},
                .tokens = {},
                .num_context = request.context_tokens.value_or(prompt_tokens)});
  require(prompt_tokens <= limit || first_run <= limit, "request", "prompt ", request_idx, " has ",
          prompt_tokens, " tokens, the context of the model is ", limit,
          ", and the scheduler evicts none of them before it is full");
}

void Engine::check_start(std::span<const Request> requests, std::size_t request_idx) const {
  const Request& request = requests[request_idx];
  if (!request.start) return;
  require(request.start->request_idx < request_idx, "request", "prompt ", request_idx,
          " begins with that of ", request.start->request_idx, ", which is not before it");
  if (request.start->with_answer) {
    require(!request.context_tokens, "request", "prompt ", request_idx,
            " begins with an answer, so it has no context of its own");
    return;
  }
  const Request& other = requests[request.start->request_idx];
  const std::int64_t context = request.context_tokens.value_or(0);
  require(!other.start && context > 0 && other.context_tokens == request.context_tokens &&
              context < static_cast<std::int64_t>(request.prompt.size()) &&
              context < static_cast<std::int64_t>(other.prompt.size()) &&
              std::equal(request.prompt.begin(), request.prompt.begin() + context,
                         other.prompt.begin()),
          "request", "prompt ", request_idx, " does not go on from the context of prompt ",
          request.start->request_idx);
}

void Engine::check_requests(std::span<const Request> requests) const {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    check_request(requests[i], i);
    check_start(requests, i);
  }
}

std::vector<Completion> Engine::run(std::span<const Request> requests,
                                    const TokenCallback& on_token,
                                    const ProgressCallback& on_step) {
  check_requests(requests);
  forget_finished();
  completions_.assign(requests.size(), {});
  waiting_.resize(requests.size());
  std::iota(waiting_.begin(), waiting_.end(), std::size_t{0});
  starts_.reset(requests);
  std::int64_t num_done = 0;
  std::int64_t num_known = 0;
  for (const Request& request : requests) {
    num_known += static_cast<std::int64_t>(request.prompt.size());
    if (request.start) num_known -= request.context_tokens.value_or(0);
  }

  try {
    admit(requests);
    while (!active_.empty()) {
      const std::int64_t before = stats_.num_prefill_tokens + stats_.num_decode_tokens;
      step(requests);
      advance(requests, sampled_, on_token);
      schedule(requests);
      fit_bases();
      share_contexts(requests.size());
      admit(requests);
      num_done += stats_.num_prefill_tokens + stats_.num_decode_tokens - before;
      if (on_step) on_step(num_done, std::max(num_known, num_done));
    }
  } catch (...) {
    // The engine stays usable: what was running leaves the cache.
    for (const ActiveSequence& sequence : active_) {
      if (!sequence.has_ended) finished_.push_back(sequence.id);
    }
    active_.clear();
    for (const SequenceId sequence : starts_.sequences()) finished_.push_back(sequence);
    starts_.reset({});
    forget_finished();
    throw;
  }
  if (!keep_finished_) forget_finished();
  return std::move(completions_);
}

void Engine::admit(std::span<const Request> requests) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (static_cast<std::int64_t>(active_.size()) >= config_.max_batch_sequences) return;
    const Request& request = requests[*next];
    if (request.start && starts_.find(*request.start) == nullptr) {
      ++next;
      continue;
    }
    const auto id = id_from<SequenceId>(*next);
    ActiveSequence sequence =
        request.start ? begin_with(*request.start, request, id) : begin(request, id);
    sequence.shares_context = starts_.is_wanted({.request_idx = *next});
    sequence.next_run = next_run(sequence);
    next = waiting_.erase(next);
    if (request.unbounded || sequence.num_prompt <= parts_.model.context_tokens) {
      active_.push_back(std::move(sequence));
      continue;
    }
    sequence.tokens.resize(static_cast<std::size_t>(sequence.num_computed));
    finish(sequence, FinishReason::kContext);
    if (!keep_finished_) forget_finished();
    next = waiting_.begin();  // who waits for its end may have been passed over
  }
}

ActiveSequence Engine::begin(const Request& request, SequenceId id) {
  const auto num_prompt = static_cast<std::int64_t>(request.prompt.size());
  parts_.cache.add_sequence(id);
  return {.id = id,
          .tokens = request.prompt,
          .num_prompt = num_prompt,
          .num_context = request.context_tokens.value_or(num_prompt),
          .end = parts_.model.context_tokens,
          .awaits_basis = parts_.cache.codec().fits_sequences()};
}

ActiveSequence Engine::begin_with(const SharedStart& start, const Request& request, SequenceId id) {
  ActiveSequence sequence = *starts_.find(start);
  const SequenceId from = std::exchange(sequence.id, id);
  fork_on_all_ranks(parts_.cache, parts_.comm, from, id);
  fork_records(from, id);
  if (starts_.take(start)) {
    finished_.push_back(from);
    if (!keep_finished_) forget_finished();
  }
  if (start.with_answer) {
    sequence.tokens.insert(sequence.tokens.end(), request.prompt.begin(), request.prompt.end());
  } else {
    sequence.tokens = request.prompt;
  }
  sequence.num_prompt = static_cast<std::int64_t>(sequence.tokens.size());
  return sequence;
}

/// A copy of each context that was just computed, and scheduled, for those who begin with it.
void Engine::share_contexts(std::size_t num_requests) {
  for (ActiveSequence& sequence : active_) {
    if (!sequence.shares_context || sequence.num_computed < sequence.num_context) continue;
    sequence.shares_context = false;
    const SharedStart context{.request_idx = index(sequence.id)};
    ActiveSequence copy = sequence;
    copy.id = id_from<SequenceId>(num_requests + index(sequence.id));
    fork_on_all_ranks(parts_.cache, parts_.comm, sequence.id, copy.id);
    fork_records(sequence.id, copy.id);
    starts_.put(context, std::move(copy));
  }
}

void Engine::step(std::span<const Request> requests) {
  const auto start = Clock::now();
  const auto bytes_sent = [&] {
    return parts_.comm.stats().bytes_sent + parts_.decoder.bytes_sent();
  };
  const std::uint64_t bytes_before = bytes_sent();
  const std::uint64_t weights_before = parts_.decoder.weight_bytes_read();
  const std::uint64_t not_read_before = parts_.decoder.read_stats().bytes_not_read;
  follow_switches();
  const BatchPlan plan = plan_batch(active_, config_.chunk_tokens);
  const RankRows mine = rows_of_rank(plan, active_, parts_.comm.rank(), parts_.comm.size(),
                                     parts_.decoder.shares_rows(plan.num_tokens));
  parts_.decoder.forward(mine.rows);

  sampled_.assign(active_.size(), -1);
  sample(requests, mine);
  parts_.comm.all_reduce(std::span<std::int64_t>(sampled_), ReduceOp::kMax);
  for (const SequenceSlice& slice : plan.slices) {
    active_[slice.active_idx].num_computed = slice.end;
  }

  last_was_decode_ = plan.is_decode;
  ++stats_.num_steps;
  if (plan.is_decode) {
    ++stats_.num_decode_steps;
    stats_.num_decode_tokens += plan.num_tokens;
    stats_.decode_seconds += seconds_since(start);
    stats_.decode_bytes_sent += bytes_sent() - bytes_before;
    stats_.decode_bytes_read += parts_.decoder.weight_bytes_read() - weights_before +
                                parts_.cache.page_bytes() -
                                (parts_.decoder.read_stats().bytes_not_read - not_read_before);
  } else {
    stats_.num_prefill_tokens += plan.num_tokens;
    stats_.prefill_seconds += seconds_since(start);
  }
}

/// Rows that nobody asks for more than their largest logit are decided where the logits are.
void Engine::sample(std::span<const Request> requests, const RankRows& mine) {
  struct Chosen {
    std::vector<std::int32_t> rows;
    std::vector<std::size_t> sequences;
  } greedy, others;
  for (std::size_t i = 0; i < mine.last_rows.size(); ++i) {
    const ActiveSequence& sequence = active_[mine.last_sequences[i]];
    Chosen& chosen = is_greedy(sequence, requests[index(sequence.id)]) ? greedy : others;
    chosen.rows.push_back(mine.last_rows[i]);
    chosen.sequences.push_back(mine.last_sequences[i]);
  }
  if (!greedy.rows.empty()) {
    const std::span<const TokenId> tokens = parts_.decoder.greedy_tokens(greedy.rows);
    for (std::size_t i = 0; i < tokens.size(); ++i) sampled_[greedy.sequences[i]] = tokens[i];
  }
  if (others.rows.empty()) return;
  const View<const float, 2> logits = parts_.decoder.logits(others.rows);
  for (std::size_t i = 0; i < others.rows.size(); ++i) {
    const ActiveSequence& sequence = active_[others.sequences[i]];
    sampled_[others.sequences[i]] = choose(
        {logits.row(static_cast<std::int64_t>(i)), static_cast<std::size_t>(logits.row_size())},
        sequence, requests[index(sequence.id)]);
  }
}

bool Engine::is_greedy(const ActiveSequence& sequence, const Request& request) const {
  const std::size_t num_generated = completions_[index(sequence.id)].tokens.size();
  return !logits_observer_ && num_generated >= request.forced_tokens.size() &&
         request.sampling.temperature == 0.0f && request.sampling.repetition_penalty == 1.0f;
}

TokenId Engine::choose(std::span<const float> logits, const ActiveSequence& sequence,
                       const Request& request) {
  const std::size_t num_generated = completions_[index(sequence.id)].tokens.size();
  if (logits_observer_) {
    logits_observer_(index(sequence.id), static_cast<std::int64_t>(num_generated), logits);
  }
  if (num_generated < request.forced_tokens.size()) return request.forced_tokens[num_generated];
  return sampler_.sample(logits, sequence.tokens, request.sampling, index(sequence.id),
                         sequence.tokens.size());
}

void Engine::advance(std::span<const Request> requests, const std::vector<std::int64_t>& sampled,
                     const TokenCallback& on_token) {
  for (std::size_t i = 0; i < active_.size(); ++i) {
    if (sampled[i] < 0) continue;
    ActiveSequence& sequence = active_[i];
    const std::size_t request_idx = index(sequence.id);
    const Request& request = requests[request_idx];
    const auto token = static_cast<TokenId>(sampled[i]);
    if (std::ranges::find(request.stop_tokens, token) != request.stop_tokens.end()) {
      finish(sequence, FinishReason::kStopToken);
      continue;
    }
    std::vector<TokenId>& tokens = completions_[request_idx].tokens;
    tokens.push_back(token);
    sequence.tokens.push_back(token);
    if (on_token && !on_token(request_idx, token)) {
      finish(sequence, FinishReason::kStopped);
    } else if (static_cast<std::int64_t>(tokens.size()) >= request.max_tokens) {
      finish(sequence, FinishReason::kMaxTokens);
    } else if (!request.unbounded && sequence.num_computed >= sequence.end) {
      finish(sequence, FinishReason::kContext);
    }
  }
  drop_ended();
}

std::int64_t Engine::next_run(const ActiveSequence& sequence) const {
  if (!parts_.scheduling.scheduler().evicts()) return Scheduler::kNever;
  return parts_.scheduling.scheduler().next_run(sequence.num_computed, sequence.num_context,
                                                parts_.scheduling.budget_of(num_cached()));
}

std::int64_t Engine::num_cached() const {
  return std::ranges::count(active_, false, &ActiveSequence::has_ended) +
         static_cast<std::int64_t>(finished_.size() + starts_.sequences().size());
}

/// Callbacks may switch the scheduler between any two of our own calls.
void Engine::follow_switches() {
  if (num_switches_ == parts_.scheduling.num_switches()) return;
  num_switches_ = parts_.scheduling.num_switches();
  for (ActiveSequence& sequence : active_) sequence.next_run = next_run(sequence);
}

void Engine::schedule(std::span<const Request> requests) {
  follow_switches();
  const auto start = Clock::now();
  bool ran = false;
  const std::int64_t num_sequences = num_cached();
  for (ActiveSequence& sequence : active_) {
    const bool is_unbounded = requests[index(sequence.id)].unbounded;
    const bool is_due = sequence.num_computed >= sequence.next_run;
    const bool is_observed = context_observer_ != nullptr && !sequence.context_was_observed &&
                             sequence.num_computed >= sequence.num_context;
    const ScheduledSequence scheduled{.id = sequence.id,
                                      .num_computed = sequence.num_computed,
                                      .num_context = sequence.num_context};
    if (is_observed) {
      sequence.context_was_observed = true;
      context_observer_->on_computed(scheduled);
    }
    if (is_due) {
      if (parts_.scheduling.scheduler().needs().reread.is_wanted()) reread(sequence);
      parts_.scheduling.run(scheduled, num_sequences);
      if (is_observed) context_observer_->on_scheduled(scheduled);
      sequence.next_run = next_run(sequence);
      ran = true;
      if (is_unbounded) {
        sequence.end =
            sequence.num_computed + parts_.model.context_tokens - parts_.scheduling.longest_head();
      }
    }
    if (is_unbounded && sequence.num_computed >= sequence.end) {
      finish(sequence, FinishReason::kContext);
    }
  }
  drop_ended();
  if (!ran) return;
  const double seconds = seconds_since(start);
  (last_was_decode_ ? stats_.decode_seconds : stats_.prefill_seconds) += seconds;
  (last_was_decode_ ? stats_.decode_scheduling_seconds : stats_.prefill_scheduling_seconds) +=
      seconds;
}

/// Of the contexts that were just computed, and scheduled.
void Engine::fit_bases() {
  for (ActiveSequence& sequence : active_) {
    if (!sequence.awaits_basis || sequence.num_computed < sequence.num_context) continue;
    const auto start = Clock::now();
    sequence.awaits_basis = false;
    fit_on_all_ranks(parts_.cache, parts_.comm, parts_.model, sequence.id);
    (last_was_decode_ ? stats_.decode_seconds : stats_.prefill_seconds) += seconds_since(start);
  }
}

/// The cache of a sequence goes, unless somebody begins with it.
void Engine::finish(ActiveSequence& sequence, FinishReason reason) {
  const std::size_t request_idx = index(sequence.id);
  Completion& completion = completions_[request_idx];
  completion.reason = reason;
  completion.kv_bytes = parts_.cache.page_bytes(sequence.id);
  if (keep_histories_) {
    completion.computed.assign(sequence.tokens.begin(),
                               sequence.tokens.begin() + sequence.num_computed);
    completion.evictions = parts_.scheduling.evictions(sequence.id);
  }
  const SharedStart end{.request_idx = request_idx, .with_answer = true};
  if (starts_.is_wanted(end)) {
    starts_.put(end, sequence);
  } else {
    finished_.push_back(sequence.id);
  }
  sequence.has_ended = true;
}

void Engine::drop_ended() {
  std::erase_if(active_, [](const ActiveSequence& sequence) { return sequence.has_ended; });
  if (!keep_finished_) forget_finished();
}

void Engine::reread(const ActiveSequence& sequence) {
  const auto start = Clock::now();
  stats_.num_reread_tokens += reread_pass_.run(
      sequence.id,
      std::span(sequence.tokens).first(static_cast<std::size_t>(sequence.num_computed)));
  stats_.reread_seconds += seconds_since(start);
}

void Engine::keep_histories(bool keep) {
  keep_histories_ = keep;
  parts_.scheduling.record_evictions(keep);
}

/// What is known of a sequence beside its cache.
void Engine::fork_records(SequenceId from, SequenceId to) {
  parts_.tap.fork(from, to);
  parts_.scheduling.fork(from, to);
}

void Engine::forget_finished() {
  for (const SequenceId sequence : finished_) {
    parts_.cache.remove_sequence(sequence);
    parts_.tap.forget(sequence);
    parts_.scheduling.forget(sequence);
  }
  finished_.clear();
}

}  // namespace pikv
