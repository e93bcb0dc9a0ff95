// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Copies of sequences on all ranks.
#pragma once

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/model/attention_tap.hpp"

namespace pikv {

/// A collective. Throws OutOfMemory on every rank, with no copy left, when the pool of one is full.
void fork_on_all_ranks(KvCache& cache, Communicator& comm, SequenceId from, SequenceId to);

/// A copy that lasts as long as this object, with all its queries from position `next` on in the
/// tap. A collective.
class TemporaryFork {
 public:
  TemporaryFork(KvCache& cache, AttentionTap& tap, Communicator& comm, SequenceId from,
                SequenceId to, Position next);
  ~TemporaryFork();
  TemporaryFork(const TemporaryFork&) = delete;
  TemporaryFork& operator=(const TemporaryFork&) = delete;

 private:
  KvCache& cache_;
  AttentionTap& tap_;
  SequenceId id_;
};

}  // namespace pikv
