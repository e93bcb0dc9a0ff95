// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reads what a sequence has seen a second time, for schedulers that ask for it (Rereading). For
// each chunk a copy of the sequence reads, at the positions that follow, the prompt, the last
// tokens of the chunk before and the chunk. There is one copy at a time.
#pragma once

#include <span>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/eviction/scheduling_pass.hpp"
#include "core/model/attention_tap.hpp"
#include "core/model/decoder.hpp"

namespace pikv {

class RereadPass {
 public:
  /// All references must outlive the pass.
  struct Parts {
    Decoder& decoder;
    KvCache& cache;
    Communicator& comm;
    AttentionTap& tap;
    SchedulingPass& scheduling;
  };
  /// `chunk_tokens`: of a step. `prompt`: the tokens of Rereading::prompt.
  RereadPass(const Parts& parts, std::int64_t chunk_tokens, std::vector<TokenId> prompt);

  /// A collective: brings SchedulingPass::score_reread what the sequence has seen, `tokens`. The
  /// sequence itself stays as it is. Throws OutOfMemory when the pool has no room for a copy that
  /// reads a chunk. Returns the tokens that were read.
  std::int64_t run(SequenceId sequence, std::span<const TokenId> tokens);

 private:
  std::int64_t read(SequenceId sequence, std::span<const TokenId> tokens, std::int64_t begin,
                    const Rereading& reread);

  Parts parts_;
  std::int64_t chunk_tokens_;
  std::vector<TokenId> prompt_;
};

}  // namespace pikv
