// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/eviction_record.hpp"

#include <utility>

#include "kernels/common/page_layout.hpp"

namespace pikv {
namespace {

/// Takes the slot at `position` out of the map: where it was computed.
Position take(std::unordered_map<Position, Position>& computed_at, Position position) {
  const auto found = computed_at.find(position);
  if (found == computed_at.end()) return position;
  const Position origin = found->second;
  computed_at.erase(found);
  return origin;
}

}  // namespace

void EvictionRecord::add(const SequenceScores& scores,
                         std::span<const std::vector<std::int32_t>> evict,
                         std::span<const std::vector<SlotMove>> moves) {
  heads_.resize(scores.heads.size());
  for (std::size_t i = 0; i < heads_.size(); ++i) {
    auto& [gone_after, computed_at] = heads_[i];
    const auto origin_of = [&](std::int32_t slot) {
      return take(computed_at, scores.heads[i].positions[static_cast<std::size_t>(slot)]);
    };
    for (const std::int32_t slot : evict[i]) {
      const auto position = static_cast<std::size_t>(origin_of(slot));
      if (position >= gone_after.size()) gone_after.resize(position + 1, kNoPosition);
      gone_after[position] = scores.next_position;
    }
    // A slot may go where another one leaves: all are taken out before any is put back.
    std::vector<std::pair<Position, Position>> moved;
    for (const SlotMove& move : moves[i]) moved.emplace_back(move.position, origin_of(move.slot));
    computed_at.insert(moved.begin(), moved.end());
  }
}

std::span<const Position> EvictionRecord::gone_after(std::size_t head) const {
  if (head >= heads_.size()) return {};
  return heads_[head].gone_after;
}

}  // namespace pikv
