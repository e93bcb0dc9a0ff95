// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/fork.hpp"

#include "kernels/common/error.hpp"

namespace pikv {

void fork_on_all_ranks(KvCache& cache, Communicator& comm, SequenceId from, SequenceId to) {
  const bool is_there = cache.fork_sequence(from, to) == AppendResult::kAppended;
  std::int64_t num_full = is_there ? 0 : 1;
  comm.all_reduce(std::span(&num_full, 1), ReduceOp::kSum);
  if (num_full == 0) return;
  if (is_there) cache.remove_sequence(to);
  throw OutOfMemory(concat("kv_cache: the pool is full: a copy of a sequence does not fit beside ",
                           cache.page_bytes(), " bytes in use, on ", num_full, " of ", comm.size(),
                           " ranks; raise --kv-memory (rank ", comm.rank(), ")"));
}

TemporaryFork::TemporaryFork(KvCache& cache, AttentionTap& tap, Communicator& comm, SequenceId from,
                             SequenceId to, Position next)
    : cache_(cache), tap_(tap), id_(to) {
  fork_on_all_ranks(cache, comm, from, to);
  tap_.watch(to, next);
}

TemporaryFork::~TemporaryFork() {
  cache_.remove_sequence(id_);
  tap_.forget(id_);
}

}  // namespace pikv
