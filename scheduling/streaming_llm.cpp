// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// StreamingLLM (Xiao et al. 2023, 2309.17453): the first slots of a sequence and the newest.
//
// The paper numbers the slots that stay anew, 0, 1, ..., so that distances are those in the cache
// and a text can be longer than any the model was trained on. RoPE sees differences alone, so here
// the newest keep their positions and the first are turned to stand directly before them: a few
// keys a run instead of all.
#include <algorithm>
#include <array>

#include "scheduling/adaptor.hpp"
#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

/// Another scheduler, after whose runs the slots of a head have consecutive positions up to the
/// newest. The first `sinks` slots of a head are to it the first of the sequence, wherever they
/// stand. A budget of fewer slots loses some of them, and the next slots take their places.
class CompactPositions final : public Adaptor {
 public:
  CompactPositions(std::unique_ptr<const Scheduler> scheduler, std::int64_t sinks)
      : scheduler_(std::move(scheduler)), sinks_(static_cast<std::size_t>(sinks)) {}

  void select(const SequenceScores& scores, const KvBudget& budget,
              std::span<std::vector<std::int32_t>> evict) const override {
    SequenceScores numbered = scores;
    for (HeadScores& head : numbered.heads) {
      const std::vector<std::int32_t> first = by_position(head, sinks_);
      for (std::size_t i = 0; i < first.size(); ++i) {
        head.positions[static_cast<std::size_t>(first[i])] = static_cast<Position>(i);
      }
    }
    scheduler_->select(numbered, budget, evict);
  }

  void move(const SequenceScores& scores, std::span<const std::vector<std::int32_t>> evict,
            std::span<std::vector<SlotMove>> moves) const override {
    for (std::size_t h = 0; h < moves.size(); ++h) {
      const HeadScores& head = scores.heads[h];
      std::vector<std::int32_t> kept = by_position(head, head.positions.size());
      std::erase_if(kept,
                    [&](std::int32_t slot) { return std::ranges::binary_search(evict[h], slot); });
      Position position = scores.next_position - static_cast<Position>(kept.size());
      for (const std::int32_t slot : kept) {
        if (head.positions[static_cast<std::size_t>(slot)] != position) {
          moves[h].push_back({.slot = slot, .position = position});
        }
        ++position;
      }
    }
  }

 private:
  [[nodiscard]] const Scheduler& inner() const override { return *scheduler_; }

  /// The first `count` slots, or all there are, in the order of their positions.
  [[nodiscard]] static std::vector<std::int32_t> by_position(const HeadScores& head,
                                                             std::size_t count) {
    std::vector<std::int32_t> order(head.positions.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
    count = std::min(count, order.size());
    std::ranges::partial_sort(
        order, order.begin() + static_cast<std::ptrdiff_t>(count), {},
        [&](std::int32_t slot) { return head.positions[static_cast<std::size_t>(slot)]; });
    order.resize(count);
    return order;
  }

  std::unique_ptr<const Scheduler> scheduler_;
  std::size_t sinks_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_streaming(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kPositions = {"original", "compact"};
  const bool is_compact = options.choice("positions", "original", kPositions) == "compact";
  auto scorer = make_streaming_llm(options);
  const std::int64_t sinks =
      scorer->protection(0)
          .joined({.sinks = options.integer("keep_first", 0, 0, std::int64_t{1} << 31)})
          .sinks;
  auto scheduler = compose(std::move(scorer), make_uniform_allocator(), options);
  if (!is_compact) return scheduler;
  return std::make_unique<CompactPositions>(std::move(scheduler), sinks);
}

}  // namespace pikv::scheduling
