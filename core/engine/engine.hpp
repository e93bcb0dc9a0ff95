// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sequences in, tokens out: chunked prefill, decode, sampling and batching, the same loop on every
// rank (DESIGN 5).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/engine/batch_plan.hpp"
#include "core/engine/request.hpp"
#include "core/engine/reread_pass.hpp"
#include "core/engine/sampler.hpp"
#include "core/engine/shared_starts.hpp"
#include "core/eviction/scheduling_pass.hpp"
#include "core/model/attention_tap.hpp"
#include "core/model/decoder.hpp"

namespace pikv {

struct EngineConfig {
  std::int64_t max_batch_sequences = 32;
  std::int64_t chunk_tokens = 512;          // prefill tokens a step, over all sequences and ranks
  std::vector<TokenId> reread_prompt = {};  // the tokens of the scheduler's Rereading::prompt
};

/// All references must outlive the engine.
struct EngineParts {
  const ModelConfig& model;
  Decoder& decoder;
  KvCache& cache;
  Communicator& comm;
  AttentionTap& tap;
  SchedulingPass& scheduling;
};

/// Called on every rank with each new token that is not a stop token, in the same order; false ends
/// the sequence. It must return the same on every rank.
using TokenCallback = std::function<bool(std::size_t request_idx, TokenId token)>;

/// Sees the logits [V] that a generated token is chosen by, on the one rank that has them.
using LogitsObserver = std::function<void(std::size_t request_idx, std::int64_t num_generated,
                                          std::span<const float> logits)>;

/// Looks at a request whose context has just been computed, of those that go on after it; on every
/// rank, so that it may run collectives. The id of the sequence is the index of the request.
class ContextObserver {
 public:
  virtual ~ContextObserver() = default;
  /// Before the scheduler runs there, if it does.
  virtual void on_computed(const ScheduledSequence& sequence) = 0;
  /// After it ran, and only then.
  virtual void on_scheduled(const ScheduledSequence& sequence) = 0;
};

/// Called after each step with the tokens computed so far, out of those known now.
using ProgressCallback = std::function<void(std::int64_t num_done, std::int64_t num_known)>;

class Engine {
 public:
  Engine(const EngineParts& parts, const EngineConfig& config);

  /// Runs requests to their ends, in batches; the completions are in the order of the requests. A
  /// collective: every rank passes the same requests. Throws InvalidArgument for a request that is
  /// empty, longer than the context (forced tokens among it; if it is unbounded: before the
  /// scheduler first runs), has a token outside the vocabulary, impossible options or a start that
  /// is not there. One whose prompt does not fit behind the answer that it begins with ends at
  /// once, without a token.
  [[nodiscard]] std::vector<Completion> run(std::span<const Request> requests,
                                            const TokenCallback& on_token = {},
                                            const ProgressCallback& on_step = {});

  /// Throws InvalidArgument for the first request that run() would refuse.
  void check_requests(std::span<const Request> requests) const;

  /// Sums over all runs.
  [[nodiscard]] const EngineStats& stats() const { return stats_; }

  /// Keeps the cache of the sequences of a run until the next run, for those who look into it.
  void keep_finished_sequences(bool keep) { keep_finished_ = keep; }

  /// Completions of later runs say what went through the caches of their sequences, and when it
  /// left.
  void keep_histories(bool keep);

  /// Of all later runs; an empty one ends it.
  void observe_logits(LogitsObserver observer) { logits_observer_ = std::move(observer); }
  /// The same; it must outlive them. Null ends it.
  void observe_contexts(ContextObserver* observer) { context_observer_ = observer; }

 private:
  void check_request(const Request& request, std::size_t request_idx) const;
  void check_length(const Request& request, std::size_t request_idx) const;
  void check_start(std::span<const Request> requests, std::size_t request_idx) const;
  void admit(std::span<const Request> requests);
  [[nodiscard]] ActiveSequence begin(const Request& request, SequenceId id);
  [[nodiscard]] ActiveSequence begin_with(const SharedStart& start, const Request& request,
                                          SequenceId id);
  void finish(ActiveSequence& sequence, FinishReason reason);
  void share_contexts(std::size_t num_requests);
  void step(std::span<const Request> requests);
  void sample(std::span<const Request> requests, const RankRows& mine);
  [[nodiscard]] bool is_greedy(const ActiveSequence& sequence, const Request& request) const;
  [[nodiscard]] TokenId choose(std::span<const float> logits, const ActiveSequence& sequence,
                               const Request& request);
  void advance(std::span<const Request> requests, const std::vector<std::int64_t>& sampled,
               const TokenCallback& on_token);
  [[nodiscard]] std::int64_t next_run(const ActiveSequence& sequence) const;
  /// Sequences in the cache; finished ones may have been asked to stay.
  [[nodiscard]] std::int64_t num_cached() const;
  void follow_switches();
  void schedule(std::span<const Request> requests);
  void reread(const ActiveSequence& sequence);
  void fit_bases();
  void drop_ended();
  void fork_records(SequenceId from, SequenceId to);
  void forget_finished();

  EngineParts parts_;
  EngineConfig config_;
  RereadPass reread_pass_;
  Sampler sampler_;
  EngineStats stats_;
  bool last_was_decode_ = false;

  std::vector<ActiveSequence> active_;
  std::vector<std::size_t> waiting_;  // requests that are not active yet, ascending
  SharedStarts starts_;
  std::int64_t num_switches_;  // of the scheduler, that the sequences' next runs know of
  std::vector<Completion> completions_;
  std::vector<std::int64_t> sampled_;  // by active sequence; -1: no new token in this step
  std::vector<SequenceId> finished_;   // still in the cache
  bool keep_finished_ = false;
  bool keep_histories_ = false;
  LogitsObserver logits_observer_;
  ContextObserver* context_observer_ = nullptr;
};

}  // namespace pikv
