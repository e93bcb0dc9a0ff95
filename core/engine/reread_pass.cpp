// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/reread_pass.hpp"

#include <algorithm>
#include <limits>

#include "core/engine/batch_plan.hpp"
#include "core/engine/fork.hpp"

namespace pikv {
namespace {

/// The copy; no request has this number.
constexpr SequenceId kCopy{std::numeric_limits<std::uint32_t>::max()};

void append(std::span<const TokenId> more, std::vector<TokenId>& tokens) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

}  // namespace

RereadPass::RereadPass(const Parts& parts, std::int64_t chunk_tokens, std::vector<TokenId> prompt)
    : parts_(parts), chunk_tokens_(chunk_tokens), prompt_(std::move(prompt)) {}

std::int64_t RereadPass::run(SequenceId sequence, std::span<const TokenId> tokens) {
  const Rereading reread = parts_.scheduling.scheduler().needs().reread;
  const auto num_tokens = static_cast<std::int64_t>(tokens.size());
  std::int64_t num_read = 0;
  for (std::int64_t begin = 0; begin < num_tokens; begin += reread.chunk_tokens) {
    num_read += read(sequence, tokens, begin, reread);
  }
  return num_read;
}

std::int64_t RereadPass::read(SequenceId sequence, std::span<const TokenId> tokens,
                              std::int64_t begin, const Rereading& reread) {
  const auto num_seen = static_cast<std::int64_t>(tokens.size());
  const std::int64_t end = std::min(begin + reread.chunk_tokens, num_seen);
  const std::int64_t from = std::max<std::int64_t>(begin - reread.overlap_tokens, 0);
  std::vector<ActiveSequence> copies(1);
  ActiveSequence& copy = copies.front();
  copy.id = kCopy;
  copy.num_computed = num_seen;
  append(tokens, copy.tokens);
  append(prompt_, copy.tokens);
  append(tokens.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(end - from)),
         copy.tokens);
  const auto next = static_cast<std::int64_t>(copy.tokens.size());
  copy.num_prompt = next;

  const auto first_row = static_cast<Position>(num_seen);
  const TemporaryFork fork(parts_.cache, parts_.tap, parts_.comm, sequence, kCopy, first_row);
  while (copy.num_computed < next) {
    const BatchPlan plan = plan_batch(copies, chunk_tokens_);
    parts_.decoder.forward(rows_of_rank(plan, copies, parts_.comm.rank(), parts_.comm.size()).rows);
    copy.num_computed = plan.slices.front().end;
  }
  parts_.scheduling.score_reread(kCopy,
                                 {.begin = static_cast<Position>(begin),
                                  .end = static_cast<Position>(end),
                                  .first_row = first_row},
                                 static_cast<Position>(next));
  return next - num_seen;
}

}  // namespace pikv
