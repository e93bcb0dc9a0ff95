// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// When the slots of a sequence went, so that one can say afterwards what a query still found.
#pragma once

#include <span>
#include <unordered_map>
#include <vector>

#include "core/policy/scheduler.hpp"

namespace pikv {

class EvictionRecord {
 public:
  /// A run of a scheduler over slots that had these scores: what it evicted, and where it moved
  /// what stays ([L, Hkv] each, see Scheduler).
  void add(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
           std::span<const std::vector<SlotMove>> moves);

  /// Of a head, l * Hkv + h, by the position that a slot was computed at, wherever its key was
  /// turned to since: how many tokens the sequence had seen when the slot went, which queries of
  /// that position and later ones miss. kNoPosition: it stayed; so did all beyond the end.
  [[nodiscard]] std::span<const Position> gone_after(std::size_t head) const;

 private:
  struct Head {
    std::vector<Position> gone_after;
    std::unordered_map<Position, Position> computed_at;  // of slots that moved, by where they are
  };
  std::vector<Head> heads_;  // [L, Hkv]; none before the first run
};

}  // namespace pikv
