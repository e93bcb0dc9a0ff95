// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler decides which slots of the cache are kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

/// One stream as a scheduler sees it.
struct StreamContents {
  SequenceId sequence;
  LayerId layer;
  HeadId kv_head;
  ShardId shard;
  std::span<const Position> positions;  // of the slots, ascending
  Position next_position;               // of the sequence
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  /// False when the scheduler never evicts: streams are then not even listed for it.
  [[nodiscard]] virtual bool evicts() const = 0;

  /// Called for every stream after each step. Fills `keep` with the subscripts of the slots to
  /// keep, ascending; the others are freed.
  virtual void select(const StreamContents& stream, std::vector<std::int32_t>& keep) const = 0;
};

}  // namespace pikv
