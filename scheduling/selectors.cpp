// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "scheduling/scorer.hpp"
#include "scheduling/shares.hpp"

namespace pikv::scheduling {
namespace {

/// All but the best `count` slots of a head.
std::vector<std::int32_t> all_but(std::int64_t count, const HeadScores& head,
                                  const Protection& protection, Position next) {
  const std::size_t n = head.positions.size();
  return worst(head, protection, next, n - std::min(n, static_cast<std::size_t>(count)));
}

class Top final : public Selector {
 public:
  void select(const SequenceScores& scores, const Protection& protection,
              std::span<const std::int64_t> counts,
              std::span<std::vector<std::int32_t>> evict) const override {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      evict[i] = all_but(counts[i], scores.heads[i], protection, scores.next_position);
    }
  }
};

class Chunks final : public Selector {
 public:
  explicit Chunks(std::int64_t chunk) : chunk_(chunk) {}

  void select(const SequenceScores& scores, const Protection& protection,
              std::span<const std::int64_t> counts,
              std::span<std::vector<std::int32_t>> evict) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    for (std::size_t first = 0; first < counts.size(); first += num_heads) {
      const std::span heads = std::span(scores.heads).subspan(first, num_heads);
      const std::vector<std::int64_t> order =
          chunks_by_worth(heads, protection, scores.next_position);
      for (std::size_t h = 0; h < num_heads; ++h) {
        evict[first + h] = slots_after(order, heads[h], protection, scores.next_position,
                                       static_cast<std::size_t>(counts[first + h]));
      }
    }
  }

 private:
  /// Chunks with more protected slots come first, then those of higher mean score.
  [[nodiscard]] std::vector<std::int64_t> chunks_by_worth(std::span<const HeadScores> heads,
                                                          const Protection& protection,
                                                          Position next) const {
    struct Worth {
      std::int64_t num_protected = 0;
      double sum = 0;
      std::int64_t count = 0;
    };
    std::map<std::int64_t, Worth> chunks;
    for (const HeadScores& head : heads) {
      for (std::size_t i = 0; i < head.positions.size(); ++i) {
        Worth& worth = chunks[head.positions[i] / chunk_];
        if (protection.covers(head.positions[i], next)) {
          ++worth.num_protected;
        } else {
          worth.sum += static_cast<double>(head.scores[i]);
          ++worth.count;
        }
      }
    }
    std::vector<std::int64_t> order;
    for (const auto& [chunk, worth] : chunks) order.push_back(chunk);
    const auto mean = [](const Worth& worth) {
      return worth.count > 0 ? worth.sum / static_cast<double>(worth.count) : 0.0;
    };
    std::ranges::stable_sort(order, [&](std::int64_t a, std::int64_t b) {
      const Worth& x = chunks.at(a);
      const Worth& y = chunks.at(b);
      if (x.num_protected != y.num_protected) return x.num_protected > y.num_protected;
      return mean(x) > mean(y);
    });
    return order;
  }

  /// All but the first `count` slots of a head in the order of the chunks; inside one, the best
  /// come first.
  [[nodiscard]] std::vector<std::int32_t> slots_after(const std::vector<std::int64_t>& order,
                                                      const HeadScores& head,
                                                      const Protection& protection, Position next,
                                                      std::size_t count) const {
    std::map<std::int64_t, std::vector<std::int32_t>> members;
    for (const std::int32_t slot : ranked(head, protection, next)) {
      members[head.positions[static_cast<std::size_t>(slot)] / chunk_].push_back(slot);
    }
    std::vector<std::int32_t> slots;
    std::size_t num_kept = 0;
    for (const std::int64_t chunk : order) {
      for (const std::int32_t slot : members[chunk]) {
        if (++num_kept > count) slots.push_back(slot);
      }
    }
    std::ranges::sort(slots);
    return slots;
  }

  std::int64_t chunk_;
};

class ByLayer final : public Selector {
 public:
  explicit ByLayer(std::int64_t layers) : layers_(layers) {}

  void select(const SequenceScores& scores, const Protection& protection,
              std::span<const std::int64_t> counts,
              std::span<std::vector<std::int32_t>> evict) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    const std::size_t num_layers = counts.size() / num_heads;
    const std::size_t layer = std::min(static_cast<std::size_t>(layers_), num_layers) - 1;
    const auto worths = worths_in(std::span(scores.heads).subspan(layer * num_heads, num_heads));
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (i / num_heads <= layer) {
        evict[i] = all_but(counts[i], scores.heads[i], protection, scores.next_position);
        continue;
      }
      HeadScores head{.positions = scores.heads[i].positions, .scores = {}};
      for (const Position position : head.positions) {
        const auto found = worths.find(position);
        head.scores.push_back(found != worths.end() ? found->second
                                                    : -std::numeric_limits<float>::infinity());
      }
      evict[i] = all_but(counts[i], head, protection, scores.next_position);
    }
  }

 private:
  /// Means over the heads that have a position.
  static std::unordered_map<Position, float> worths_in(std::span<const HeadScores> heads) {
    std::unordered_map<Position, std::pair<double, int>> sums;
    for (const HeadScores& head : heads) {
      for (std::size_t slot = 0; slot < head.positions.size(); ++slot) {
        auto& [sum, count] = sums[head.positions[slot]];
        sum += static_cast<double>(head.scores[slot]);
        ++count;
      }
    }
    std::unordered_map<Position, float> means;
    for (const auto& [position, sum] : sums) {
      means[position] = static_cast<float>(sum.first / sum.second);
    }
    return means;
  }

  std::int64_t layers_;
};

class Segments final : public Selector {
 public:
  explicit Segments(std::int64_t segment) : segment_(segment) {}

  void select(const SequenceScores& scores, const Protection& protection,
              std::span<const std::int64_t> counts,
              std::span<std::vector<std::int32_t>> evict) const override {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      evict[i] = losers(scores.heads[i], protection, scores.next_position, counts[i]);
    }
  }

 private:
  [[nodiscard]] std::vector<std::int32_t> losers(const HeadScores& head,
                                                 const Protection& protection, Position next,
                                                 std::int64_t count) const {
    std::map<std::int64_t, std::vector<std::int32_t>> segments;  // slots, best first
    for (const std::int32_t slot : ranked(head, protection, next)) {
      segments[head.positions[static_cast<std::size_t>(slot)] / segment_].push_back(slot);
    }
    std::vector<double> weights;
    std::vector<std::int64_t> least, most;
    std::int64_t num_protected = 0;
    for (const auto& [segment, slots] : segments) {
      most.push_back(static_cast<std::int64_t>(slots.size()));
      weights.push_back(static_cast<double>(slots.size()));
      least.push_back(std::ranges::count_if(slots, [&](std::int32_t slot) {
        return protection.covers(head.positions[static_cast<std::size_t>(slot)], next);
      }));
      num_protected += least.back();
    }
    const auto n = static_cast<std::int64_t>(head.positions.size());
    count = std::min(count, n);
    // Where not even the protected slots fit there is nothing to divide.
    if (num_protected > count) {
      return worst(head, protection, next, static_cast<std::size_t>(n - count));
    }
    const std::vector<std::int64_t> shares = share_out(count, weights, least, most);
    std::vector<std::int32_t> result;
    auto share = shares.begin();
    for (const auto& [segment, slots] : segments) {
      result.insert(result.end(), slots.begin() + *share++, slots.end());
    }
    std::ranges::sort(result);
    return result;
  }

  std::int64_t segment_;
};

}  // namespace

std::unique_ptr<const Selector> make_segment_selector(std::int64_t segment) {
  return std::make_unique<Segments>(segment);
}

std::unique_ptr<const Selector> make_layer_selector(std::int64_t layers) {
  return std::make_unique<ByLayer>(layers);
}

std::unique_ptr<const Selector> make_top_selector() { return std::make_unique<Top>(); }

std::unique_ptr<const Selector> make_chunk_selector(std::int64_t chunk) {
  return std::make_unique<Chunks>(chunk);
}

}  // namespace pikv::scheduling
