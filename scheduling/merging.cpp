// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Merging instead of dropping, over any scorer: the value of a slot that goes is folded into that
// of the slot of most similar key among those that stay. As kvpress has it (MergingPress), after
// Token Merging (Bolya et al. 2022, 2210.09461) and D2O (Wan et al. 2024, 2406.13035), with keys
// left alone. With t the neighbour of e,
//   w_e = max(cos(k_e, k_t), 0) * ||v_e|| / (||v_e|| + ||v_t||),
//   v_t = (v_t + sum_e w_e v_e) / (1 + sum_e w_e).
// O(e k D) for a head of which e slots go and k stay.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/error.hpp"
#include "kernels/linear.hpp"
#include "scheduling/adaptor.hpp"
#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"

namespace pikv::scheduling {
namespace {

// Rows of similarities at a time: at 4,000 slots that stay 4 MB.
constexpr std::size_t kBlock = 256;

class Merging final : public Adaptor {
 public:
  struct Options {
    float threshold;  // of the similarity
    double fraction;  // of what goes, the most similar
  };
  Merging(std::unique_ptr<const Scheduler> scheduler, const Options& options)
      : scheduler_(std::move(scheduler)), options_(options) {}

  [[nodiscard]] MergeNeeds merge_needs() const override {
    return {.merges = true, .keys = true, .values = true};
  }

  void merge(Exec& exec, const LayerMerge& layer,
             std::span<std::vector<ValueTerm>> terms) const override {
    for (std::size_t h = 0; h < terms.size(); ++h) {
      std::vector<Neighbour> neighbours =
          nearest(exec, layer.heads[h].positions, layer.keys[h], layer.evict[h]);
      keep_most_similar(neighbours);
      add_terms(layer.values[h], neighbours, terms[h]);
    }
  }

 private:
  struct Neighbour {
    std::int32_t from;
    std::int32_t to;
    float similarity;
  };

  [[nodiscard]] const Scheduler& inner() const override { return *scheduler_; }

  [[nodiscard]] static float norm(const View<const float, 2>& rows, std::int32_t row) {
    float squares = 0;
    for (std::int64_t d = 0; d < rows.extent(1); ++d)
      squares += rows.row(row)[d] * rows.row(row)[d];
    return std::sqrt(squares);
  }

  /// Keys of these slots, of length 1; a key of zeros stays one and resembles none.
  [[nodiscard]] static std::vector<float> unit_keys(const View<const float, 2>& keys,
                                                    std::span<const std::int32_t> slots) {
    std::vector<float> result;
    for (const std::int32_t slot : slots) {
      const float length = norm(keys, slot);
      const float scale = length > 0 ? 1 / length : 0;
      for (std::int64_t d = 0; d < keys.extent(1); ++d) result.push_back(keys.row(slot)[d] * scale);
    }
    return result;
  }

  /// For each slot that goes, by position, the slot of most similar key that stays, the oldest of
  /// equal ones.
  [[nodiscard]] static std::vector<Neighbour> nearest(Exec& exec,
                                                      const std::vector<Position>& positions,
                                                      const View<const float, 2>& keys,
                                                      std::vector<std::int32_t> evict) {
    if (evict.empty()) return {};
    std::vector<std::int32_t> kept(positions.size());
    std::iota(kept.begin(), kept.end(), 0);
    std::erase_if(kept, [&](std::int32_t i) { return std::ranges::binary_search(evict, i); });
    if (kept.empty()) return {};
    // In an order that is the same wherever slots lie.
    const auto position = [&](std::int32_t i) { return positions[static_cast<std::size_t>(i)]; };
    std::ranges::sort(kept, {}, position);
    std::ranges::sort(evict, {}, position);
    const std::vector<float> staying = unit_keys(keys, kept);
    const auto num_kept = static_cast<std::int64_t>(kept.size());
    std::vector<float> similarities(std::min(kBlock, evict.size()) * kept.size());
    std::vector<Neighbour> result;
    for (std::size_t begin = 0; begin < evict.size(); begin += kBlock) {
      const std::span slots =
          std::span(evict).subspan(begin, std::min(kBlock, evict.size() - begin));
      const auto rows = static_cast<std::int64_t>(slots.size());
      const std::vector<float> going = unit_keys(keys, slots);
      kernels::linear(exec, {.x = {going.data(), {rows, keys.extent(1)}},
                             .weight = {staying.data(), DType::kF32, num_kept, keys.extent(1)},
                             .y = {similarities.data(), {rows, num_kept}}});
      for (std::size_t i = 0; i < slots.size(); ++i) {
        const auto row = similarities.begin() + static_cast<std::ptrdiff_t>(i * kept.size());
        const auto best = std::max_element(row, row + num_kept);
        result.push_back({.from = slots[i],
                          .to = kept[static_cast<std::size_t>(best - row)],
                          .similarity = *best});
      }
    }
    return result;
  }

  /// Those at or above the threshold and the quantile 1 - fraction of all; of equal ones at the
  /// cut, the oldest.
  void keep_most_similar(std::vector<Neighbour>& neighbours) const {
    if (neighbours.empty()) return;
    const auto below = static_cast<std::size_t>(
        std::ceil((1 - options_.fraction) * static_cast<double>(neighbours.size() - 1)));
    if (below > 0) {
      std::ranges::stable_sort(neighbours, std::ranges::greater{}, &Neighbour::similarity);
      neighbours.resize(neighbours.size() - below);
    }
    std::erase_if(neighbours,
                  [&](const Neighbour& n) { return n.similarity < options_.threshold; });
  }

  static void add_terms(const View<const float, 2>& values, std::vector<Neighbour>& neighbours,
                        std::vector<ValueTerm>& terms) {
    std::ranges::stable_sort(neighbours, {}, &Neighbour::to);
    for (auto begin = neighbours.begin(); begin != neighbours.end();) {
      const std::int32_t to = begin->to;
      const float length = norm(values, to);
      const std::size_t first = terms.size();
      float sum = 1;
      for (; begin != neighbours.end() && begin->to == to; ++begin) {
        const float given = norm(values, begin->from);
        if (!(begin->similarity > 0) || given == 0) continue;
        const float weight = begin->similarity * given / (given + length);
        terms.push_back({.to = to, .from = begin->from, .weight = weight});
        sum += weight;
      }
      if (terms.size() == first) continue;
      terms.push_back({.to = to, .from = to, .weight = 1});
      for (std::size_t i = first; i < terms.size(); ++i) terms[i].weight /= sum;
    }
  }

  std::unique_ptr<const Scheduler> scheduler_;
  Options options_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_merging(PolicyOptions options) {
  const Merging::Options chosen{
      .threshold = static_cast<float>(options.number("threshold", 0, 0, 1)),
      .fraction = options.number("fraction", 1, 0, 1)};
  require(chosen.fraction > 0, "merging", "fraction = 0 merges nothing");
  auto scorer = make_base_scorer(options, "snapkv");
  return std::make_unique<Merging>(compose(std::move(scorer), make_uniform_allocator(), options),
                                   chosen);
}

}  // namespace pikv::scheduling
