// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Heads that are kept whole and heads of which only the ends are.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "scheduling/allocators/makers.hpp"
#include "scheduling/shares.hpp"

namespace pikv::scheduling {
namespace {

/// What is known of one head before the budget is looked at.
struct Head {
  double worth;  // heads of least worth go down to their ends first
  bool streaming;
  std::int64_t size;
  std::int64_t ends;  // at most size
};

void share_alike(std::span<const std::size_t> members, std::int64_t total,
                 const std::vector<std::int64_t>& least, const std::vector<std::int64_t>& most,
                 std::span<std::int64_t> counts) {
  const std::vector<double> equal(members.size(), 1.0);
  const std::vector<std::int64_t> shares = share_out(total, equal, least, most);
  for (std::size_t i = 0; i < members.size(); ++i) counts[members[i]] = shares[i];
}

/// Counts of all heads, in total at most `ceiling`.
void fit(std::span<const Head> heads, std::int64_t ceiling, std::span<std::int64_t> counts) {
  std::vector<std::size_t> order(heads.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::int64_t excess = -ceiling;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    counts[i] = heads[i].streaming ? heads[i].ends : heads[i].size;
    excess += counts[i];
  }
  if (excess <= 0) return;
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return heads[i].worth; });

  std::vector<std::size_t> members;  // of equal worth, which go down together
  for (std::size_t begin = 0; begin < order.size(); begin += members.size()) {
    const double worth = heads[order[begin]].worth;
    std::int64_t all = 0;
    std::vector<std::int64_t> least, most;
    members.clear();
    for (std::size_t i = begin; i < order.size() && heads[order[i]].worth == worth; ++i) {
      members.push_back(order[i]);
      least.push_back(heads[order[i]].ends);
      most.push_back(counts[order[i]]);
      all += most.back();
    }
    const std::int64_t saved = all - std::accumulate(least.begin(), least.end(), std::int64_t{0});
    if (saved >= excess) {
      share_alike(members, all - excess, least, most, counts);
      return;
    }
    share_alike(members, all - saved, least, most, counts);
    excess -= saved;
  }

  std::vector<std::int64_t> least, most;
  for (const Head& head : heads) {
    least.push_back(std::min<std::int64_t>(head.size, 1));
    most.push_back(head.ends);
  }
  std::iota(order.begin(), order.end(), std::size_t{0});
  share_alike(order, ceiling, least, most, counts);
}

std::vector<Head> heads_of(const SequenceScores& scores, std::int64_t ends) {
  std::vector<Head> heads;
  for (const HeadScores& head : scores.heads) {
    const auto size = static_cast<std::int64_t>(head.positions.size());
    heads.push_back({.worth = 0,
                     .streaming = false,
                     .size = size,
                     .ends = std::min(size, std::max<std::int64_t>(ends, 1))});
  }
  return heads;
}

std::int64_t ceiling_of(const SequenceScores& scores, const KvBudget& budget) {
  std::int64_t ceiling = 0;
  for (const HeadScores& head : scores.heads) {
    ceiling += budget.of(static_cast<std::int64_t>(head.positions.size()), scores.next_position);
  }
  return ceiling;
}

class Duo final : public Allocator {
 public:
  Duo(std::optional<HeadTable> table, double streaming, std::int64_t ends)
      : table_(std::move(table)), streaming_(streaming), ends_(ends) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    std::vector<Head> heads = heads_of(scores, ends_);
    if (table_) {
      const auto num_heads = static_cast<std::int64_t>(heads.size());
      const std::vector<double> worth =
          table_->by_kv_head(num_heads / scores.num_kv_heads, scores.num_kv_heads);
      for (std::size_t i = 0; i < heads.size(); ++i) heads[i].worth = worth[i];
      std::vector<std::size_t> order(heads.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::stable_sort(order, {}, [&](std::size_t i) { return worth[i]; });
      const auto num_streaming =
          static_cast<std::size_t>(std::nearbyint(streaming_ * static_cast<double>(num_heads)));
      for (std::size_t i = 0; i < num_streaming; ++i) heads[order[i]].streaming = true;
    }
    fit(heads, ceiling_of(scores, budget), counts);
  }

 private:
  std::optional<HeadTable> table_;
  double streaming_;
  std::int64_t ends_;
};

class ByBestSlot final : public Allocator {
 public:
  explicit ByBestSlot(std::int64_t ends) : ends_(ends) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    std::vector<Head> heads = heads_of(scores, ends_);
    for (std::size_t h = 0; h < heads.size(); ++h) {
      const std::vector<float>& of_head = scores.heads[h].scores;
      if (!of_head.empty()) heads[h].worth = static_cast<double>(std::ranges::max(of_head));
    }
    fit(heads, ceiling_of(scores, budget), counts);
  }

 private:
  std::int64_t ends_;
};

class FirstLayers final : public Allocator {
 public:
  explicit FirstLayers(std::int64_t layers) : layers_(layers) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection& protection,
                std::span<std::int64_t> counts) const override {
    std::vector<Head> heads = heads_of(scores, protection.sinks + protection.recents);
    for (std::size_t h = 0; h < heads.size(); ++h) {
      heads[h].worth = static_cast<std::int64_t>(h) < layers_ * scores.num_kv_heads ? 1 : 0;
    }
    fit(heads, ceiling_of(scores, budget), counts);
  }

 private:
  std::int64_t layers_;
};

class LazyLayers final : public Allocator {
 public:
  LazyLayers(double threshold, std::int64_t initial, std::int64_t recent)
      : threshold_(threshold), initial_(initial), recent_(recent) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    const auto num_kv_heads = static_cast<std::size_t>(scores.num_kv_heads);
    std::vector<Head> heads = heads_of(scores, initial_ + recent_);
    for (std::size_t first = 0; first < heads.size(); first += num_kv_heads) {
      const double laziness =
          laziness_of(std::span(scores.heads).subspan(first, num_kv_heads), scores.next_position);
      for (std::size_t h = first; h < first + num_kv_heads; ++h) {
        heads[h].worth = -laziness;
        heads[h].streaming = laziness > threshold_;
      }
    }
    fit(heads, ceiling_of(scores, budget), counts);
  }

 private:
  /// Attention to the ends, averaged over the heads. The newest position is not one of them: it is
  /// what asks.
  [[nodiscard]] double laziness_of(std::span<const HeadScores> heads, Position next) const {
    double sum = 0;
    for (const HeadScores& head : heads) {
      for (std::size_t i = 0; i < head.positions.size(); ++i) {
        const Position p = head.positions[i];
        if (p < next - 1 && (p < initial_ || p >= next - 1 - recent_)) {
          sum += static_cast<double>(head.scores[i]);
        }
      }
    }
    return sum / static_cast<double>(heads.size());
  }

  double threshold_;
  std::int64_t initial_;
  std::int64_t recent_;
};

}  // namespace

std::unique_ptr<const Allocator> make_duo_allocator(std::optional<HeadTable> table,
                                                    double streaming, std::int64_t ends) {
  return std::make_unique<Duo>(std::move(table), streaming, ends);
}

std::unique_ptr<const Allocator> make_whole_head_allocator(std::int64_t ends) {
  return std::make_unique<ByBestSlot>(ends);
}

std::unique_ptr<const Allocator> make_first_layers_allocator(std::int64_t layers) {
  return std::make_unique<FirstLayers>(layers);
}

std::unique_ptr<const Allocator> make_lazy_layer_allocator(double threshold, std::int64_t initial,
                                                           std::int64_t recent) {
  return std::make_unique<LazyLayers>(threshold, initial, recent);
}

}  // namespace pikv::scheduling
