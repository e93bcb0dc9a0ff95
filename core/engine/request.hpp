// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What goes into the engine and what comes out.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/base/ids.hpp"
#include "core/engine/sampler.hpp"
#include "core/eviction/eviction_record.hpp"

namespace pikv {

/// What an earlier request of the same run has in the cache and a later one begins with.
struct SharedStart {
  std::size_t request_idx;
  /// False: its context, as it was scheduled; the prompts of both begin with the same context, and
  /// that of neither ends there. True: all of it, with the answer; the prompt follows.
  bool with_answer = false;

  [[nodiscard]] auto operator<=>(const SharedStart&) const = default;
};

struct Request {
  std::vector<TokenId> prompt{};  // at least one token
  std::optional<SharedStart> start{};
  /// The scheduler runs when so many tokens of the prompt are in the cache; the rest of the prompt
  /// then reads what was kept. Without: the whole prompt. Not for one that begins with an answer.
  std::optional<std::int64_t> context_tokens{};
  std::int64_t max_tokens = 0;  // to generate
  /// Generated in the place of what the sampler would choose, as far as they reach.
  std::vector<TokenId> forced_tokens{};
  /// The sequence may outgrow the model's context, as long as the scheduler keeps every head of the
  /// cache shorter than that. Positions go on too, beyond those that the model was trained with,
  /// unless the scheduler moves the slots that stay (Scheduler::move).
  bool unbounded = false;
  SamplingOptions sampling{};
  std::vector<TokenId> stop_tokens{};  // any of these ends the sequence and is not part of the text
};

enum class FinishReason : std::uint8_t {
  kStopToken,
  kStopped,  // by the token callback: a stop string
  kMaxTokens,
  kContext,  // the model's context is full; of an unbounded sequence, the cache's longest head
};

[[nodiscard]] constexpr std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStopToken:
      return "stop_token";
    case FinishReason::kStopped:
      return "stop_string";
    case FinishReason::kMaxTokens:
      return "max_tokens";
    case FinishReason::kContext:
      return "context";
  }
  return "?";
}

struct Completion {
  std::vector<TokenId> tokens;  // generated, without the stop token
  FinishReason reason = FinishReason::kMaxTokens;
  std::size_t kv_bytes = 0;  // pages of the sequence on this rank when it ended
  // Where asked for, see Engine::keep_histories:
  std::vector<TokenId> computed = {};  // all that went through its cache
  EvictionRecord evictions = {};       // what left it again
};

/// Steps that only prefill or mix both count as prefill; steps of decode rows alone as decode. The
/// scheduler's runs after a step are part of its time.
struct EngineStats {
  std::int64_t num_steps = 0;
  std::int64_t num_decode_steps = 0;
  std::int64_t num_prefill_tokens = 0;
  std::int64_t num_decode_tokens = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  double prefill_scheduling_seconds = 0;  // of the above
  double decode_scheduling_seconds = 0;
  std::int64_t num_reread_tokens = 0;  // beside both: what schedulers had read again
  double reread_seconds = 0;           // part of the scheduler's runs
  // By this rank, in decode steps:
  std::uint64_t decode_bytes_sent = 0;
  std::uint64_t decode_bytes_read = 0;  // weights touched and KV pages read, each once a step
};

}  // namespace pikv
