// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// CaM (Zhang et al., "CaM: Cache Merging for Memory-efficient LLMs Inference", ICML 2024): H2O, and
// while text is generated the value of a slot that goes is, by chance, spread over the slots that
// come after it.
//
// Slot i goes; j_1, ..., j_m are the first m = `window` slots after it that stay, or as many as
// there are. With A the attention received so far and
//   p = min(1, A_i / mean(A_j)),
// V_i / m is added with probability p to each V_j, to all or to none. All of it is about the values
// of before, and the draw of a slot is a function of seed, layer, head and position, so that
// nothing depends on an order.
//
// Each token that was generated lets one slot go. A run that evicts more, as the first one does
// when nothing was evicted before (when=decode) or one in many steps (every=...), merges as many as
// tokens were generated since, those of highest score, as kvpress does; what goes at the end of the
// context is dropped. In contrast to kvpress, whose heads all evict the same, each head chooses for
// itself, and attention counts from the first token of the prompt.
#include <algorithm>
#include <array>

#include "core/base/random.hpp"
#include "scheduling/adaptor.hpp"
#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

class Cam final : public Adaptor {
 public:
  struct Options {
    std::size_t window;
    std::uint64_t seed;
    std::size_t merges_a_run;
  };
  /// The scores of `h2o` are attention received.
  Cam(std::unique_ptr<const Scheduler> h2o, const Options& options)
      : h2o_(std::move(h2o)), options_(options) {}

  [[nodiscard]] MergeNeeds merge_needs() const override { return {.merges = true}; }

  void merge(Exec&, const LayerMerge& layer,
             std::span<std::vector<ValueTerm>> terms) const override {
    if (layer.next_position <= layer.num_context) return;
    for (std::size_t h = 0; h < terms.size(); ++h) {
      if (layer.evict[h].empty()) continue;
      const HeadScores& head = layer.heads[h];
      for (const std::int32_t slot : merged(head, layer.evict[h])) {
        add_terms(head, slot, slots_after(head, layer.evict[h], slot),
                  (index(layer.layer) << 32) + h, terms[h]);
      }
    }
  }

 private:
  [[nodiscard]] const Scheduler& inner() const override { return *h2o_; }

  /// The best of what goes; of equal ones, the newest.
  [[nodiscard]] std::vector<std::int32_t> merged(const HeadScores& head,
                                                 std::vector<std::int32_t> evict) const {
    const std::size_t count = std::min(options_.merges_a_run, evict.size());
    const auto middle = evict.begin() + static_cast<std::ptrdiff_t>(count);
    std::ranges::partial_sort(evict, middle, [&](std::int32_t a, std::int32_t b) {
      const auto i = static_cast<std::size_t>(a);
      const auto j = static_cast<std::size_t>(b);
      if (head.scores[i] != head.scores[j]) return head.scores[i] > head.scores[j];
      return head.positions[i] > head.positions[j];
    });
    evict.resize(count);
    return evict;
  }

  /// The window of a slot: what stays, by position. Slots lie in any order, and sorting all of them
  /// in every step would take as long as the step.
  [[nodiscard]] std::vector<std::int32_t> slots_after(const HeadScores& head,
                                                      const std::vector<std::int32_t>& evict,
                                                      std::int32_t slot) const {
    const auto position = [&](std::int32_t i) {
      return head.positions[static_cast<std::size_t>(i)];
    };
    std::vector<std::int32_t> after;
    auto next = evict.begin();
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(head.positions.size()); ++i) {
      if (next != evict.end() && *next == i) {
        ++next;
      } else if (position(i) > position(slot)) {
        after.push_back(i);
      }
    }
    if (after.size() > options_.window) {
      std::ranges::nth_element(after, after.begin() + static_cast<std::ptrdiff_t>(options_.window),
                               {}, position);
      after.resize(options_.window);
    }
    std::ranges::sort(after, {}, position);
    return after;
  }

  void add_terms(const HeadScores& head, std::int32_t slot, const std::vector<std::int32_t>& window,
                 std::uint64_t stream, std::vector<ValueTerm>& terms) const {
    double sum = 0;
    for (const std::int32_t i : window) {
      sum += static_cast<double>(head.scores[static_cast<std::size_t>(i)]);
    }
    const auto i = static_cast<std::size_t>(slot);
    const double draw =
        random_uniform(options_.seed, stream, static_cast<std::uint64_t>(head.positions[i]));
    // draw < p without the division: who received nothing gives nothing, and all of what it has
    // where the others received nothing.
    const double received = static_cast<double>(head.scores[i]);
    if (draw * sum >= received * static_cast<double>(window.size())) return;
    const float weight = 1.0f / static_cast<float>(window.size());
    for (const std::int32_t to : window) {
      terms.push_back({.to = to, .from = slot, .weight = weight});
    }
  }

  std::unique_ptr<const Scheduler> h2o_;
  Options options_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_cam(PolicyOptions options) {
  // A run at the end of the context alone would merge nothing.
  constexpr std::array<std::string_view, 3> kMoments = {"decode", "both", "always"};
  constexpr DefaultTrigger kTrigger{.when = "both", .every = 1};
  (void)options.choice("when", kTrigger.when, kMoments);
  const Cam::Options chosen{
      .window = static_cast<std::size_t>(options.integer("window", 32, 1, 1 << 20)),
      .seed = static_cast<std::uint64_t>(options.integer("seed", 0, 0, INT64_MAX)),
      .merges_a_run = static_cast<std::size_t>(
          options.integer("every", kTrigger.every, 1, std::int64_t{1} << 31))};
  auto scorer = make_h2o(options);
  return std::make_unique<Cam>(
      compose(std::move(scorer), make_uniform_allocator(), options, make_top_selector(), kTrigger),
      chosen);
}

}  // namespace pikv::scheduling
