// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/policy/table.hpp"
#include "kernels/common/error.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

/// One head as it goes through runs of a scheduler: for each slot where it stands, and where it
/// stood when it came.
class Head {
 public:
  Head(const std::string& spec, std::int64_t slots)
      : scheduler_(make_policy("scheduler", scheduling::schedulers(), spec)),
        budget_{.slots = slots} {}

  void run(std::int64_t num_tokens) {
    while (num_seen_ < num_tokens) {
      positions_.push_back(static_cast<Position>(num_seen_));
      origins_.push_back(num_seen_++);
    }
    shuffle();
    std::vector<std::vector<float>> scores(1);
    scores[0].resize(positions_.size());
    const HeadSlots slots{.positions = positions_, .keys = {}, .values = {}};
    Exec exec = Exec::cpu(1);
    LayerSlots layer{};
    layer.next_position = static_cast<Position>(num_seen_);
    layer.num_context = num_tokens;
    layer.heads = {&slots, 1};
    scheduler_->score(exec, layer, scores);
    const SequenceScores all{.sequence = SequenceId{0},
                             .next_position = layer.next_position,
                             .num_context = num_tokens,
                             .num_kv_heads = 1,
                             .heads = {{positions_, scores[0]}}};
    std::vector<std::vector<std::int32_t>> evict(1);
    scheduler_->select(all, budget_, evict);
    std::vector<std::vector<SlotMove>> moves(1);
    scheduler_->move(all, evict, moves);
    num_moves_ = moves[0].size();
    for (const SlotMove& move : moves[0]) {
      EXPECT_FALSE(std::ranges::binary_search(evict[0], move.slot)) << "what goes does not move";
      positions_[static_cast<std::size_t>(move.slot)] = move.position;
    }
    for (auto slot = evict[0].rbegin(); slot != evict[0].rend(); ++slot) {
      positions_.erase(positions_.begin() + *slot);
      origins_.erase(origins_.begin() + *slot);
    }
  }

  /// In the order of positions.
  [[nodiscard]] std::vector<std::pair<Position, std::int64_t>> slots() const {
    std::vector<std::pair<Position, std::int64_t>> result;
    for (std::size_t i = 0; i < positions_.size(); ++i) {
      result.emplace_back(positions_[i], origins_[i]);
    }
    std::ranges::sort(result);
    return result;
  }
  [[nodiscard]] std::size_t num_moves() const { return num_moves_; }

 private:
  void shuffle() {  // slots lie in any order
    for (std::size_t i = positions_.size(); i > 1; --i) {
      const auto j = static_cast<std::size_t>(random_.integer(0, static_cast<std::int64_t>(i) - 1));
      std::swap(positions_[i - 1], positions_[j]);
      std::swap(origins_[i - 1], origins_[j]);
    }
  }

  std::unique_ptr<const Scheduler> scheduler_;
  KvBudget budget_;
  Random random_{93};
  std::vector<Position> positions_;
  std::vector<std::int64_t> origins_;
  std::int64_t num_seen_ = 0;
  std::size_t num_moves_ = 0;
};

std::vector<std::pair<Position, std::int64_t>> sinks_and_recents(Position first_sink,
                                                                 std::int64_t sinks, Position first,
                                                                 Position next) {
  std::vector<std::pair<Position, std::int64_t>> result;
  for (std::int64_t i = 0; i < sinks; ++i) {
    result.emplace_back(first_sink + static_cast<Position>(i), i);
  }
  for (Position p = first; p < next; ++p) result.emplace_back(p, p);
  return result;
}

TEST(StreamingLlm, KeepsTheSinksWhereTheyAreUnlessAskedToMoveThem) {
  Head head("streaming_llm", 20);
  for (const std::int64_t num_tokens : {40, 41, 100, 1000}) {
    head.run(num_tokens);
    const auto next = static_cast<Position>(num_tokens);
    EXPECT_EQ(head.slots(), sinks_and_recents(0, 4, next - 16, next));
    EXPECT_EQ(head.num_moves(), 0u);
  }
}

TEST(StreamingLlm, CompactSinksStandBeforeTheOldestRecentSlot) {
  for (const std::int64_t sinks : {0, 1, 4}) {
    Head head("streaming_llm:positions=compact,sinks=" + std::to_string(sinks), 20);
    head.run(20);
    EXPECT_EQ(head.num_moves(), 0u) << "nothing was evicted";
    for (const std::int64_t num_tokens : {21, 40, 41, 100, 1000}) {
      head.run(num_tokens);
      const auto next = static_cast<Position>(num_tokens);
      const auto first = next - 20 + static_cast<Position>(sinks);
      EXPECT_EQ(head.slots(), sinks_and_recents(next - 20, sinks, first, next));
      EXPECT_EQ(head.num_moves(), static_cast<std::size_t>(sinks)) << "the others stand already";
    }
  }
}

TEST(StreamingLlm, CompactTakesAllThatIsProtectedAtTheBeginningForSinks) {
  Head wider("streaming_llm:positions=compact,keep_first=6", 20);
  for (const std::int64_t num_tokens : {30, 31, 77}) {
    const auto next = static_cast<Position>(num_tokens);
    wider.run(num_tokens);
    EXPECT_EQ(wider.slots(), sinks_and_recents(next - 20, 6, next - 14, next));
  }
}

TEST(StreamingLlm, RefusesUnknownPositions) {
  EXPECT_THROW(
      (void)make_policy("scheduler", scheduling::schedulers(), "streaming_llm:positions=slot"),
      InvalidArgument);
}

}  // namespace
}  // namespace pikv
