// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// LagKV (Liang et al. 2025, 2504.04704): a partition of tokens is normalised, channel by channel,
// with the range of the next one; tokens whose channels then spread most are kept. Scores are ranks
// within a partition, so every partition keeps an equal share.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

class LagKv final : public Scorer {
 public:
  LagKv(std::int64_t sinks, std::int64_t lag) : sinks_(sinks), lag_(lag) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {.keys = true, .values = true}; }
  [[nodiscard]] Protection protection(std::int64_t) const override {
    return {.sinks = sinks_, .recents = 0};
  }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) score_head(slots.heads[h], scores[h]);
  }

 private:
  void score_head(const HeadSlots& head, std::vector<float>& scores) const {
    const auto n = static_cast<std::int64_t>(scores.size());
    const std::int64_t num_partitions = std::max<std::int64_t>(n - sinks_, 0) / lag_;
    if (num_partitions < 2) {  // nothing to compare with: the newer is kept
      for (std::int64_t i = 0; i < n; ++i) {
        scores[static_cast<std::size_t>(i)] = static_cast<float>(i) / static_cast<float>(n);
      }
      return;
    }
    std::ranges::fill(scores, 1.0f);  // sinks, the last partition and what follows it
    for (std::int64_t p = 0; p + 1 < num_partitions; ++p) {
      const std::int64_t begin = sinks_ + p * lag_;
      std::vector<float> mean(static_cast<std::size_t>(lag_));
      for (const View<const float, 2>& x : {head.keys, head.values}) add_spread(x, begin, mean);
      std::vector<std::int32_t> order(mean.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, {},
                               [&](std::int32_t i) { return mean[static_cast<std::size_t>(i)]; });
      for (std::size_t rank = 0; rank < order.size(); ++rank) {
        scores[static_cast<std::size_t>(begin + order[rank])] =
            static_cast<float>(rank) / static_cast<float>(lag_);
      }
    }
  }

  /// Adds half the softmax over a partition of the standard deviation over channels.
  void add_spread(const View<const float, 2>& x, std::int64_t begin,
                  std::vector<float>& mean) const {
    const std::int64_t dim = x.extent(1);
    std::vector<float> low(static_cast<std::size_t>(dim), INFINITY);
    std::vector<float> high(static_cast<std::size_t>(dim), -INFINITY);
    for (std::int64_t i = begin + lag_; i < begin + 2 * lag_; ++i) {
      for (std::int64_t d = 0; d < dim; ++d) {
        const auto c = static_cast<std::size_t>(d);
        low[c] = std::min(low[c], x.row(i)[d]);
        high[c] = std::max(high[c], x.row(i)[d]);
      }
    }
    std::vector<float> spread;
    for (std::int64_t i = begin; i < begin + lag_; ++i) {
      double sum = 0;
      double squares = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        const auto c = static_cast<std::size_t>(d);
        const float range = high[c] > low[c] ? high[c] - low[c] : 1.0f;
        const auto value = static_cast<double>((x.row(i)[d] - low[c]) / range);
        sum += value;
        squares += value * value;
      }
      const auto count = static_cast<double>(dim);
      const double variance = (squares - sum * sum / count) / std::max(count - 1, 1.0);
      spread.push_back(static_cast<float>(std::sqrt(std::max(variance, 0.0))));
    }
    const float largest = std::ranges::max(spread);
    float total = 0;
    for (float& s : spread) total += s = std::exp(s - largest);
    for (std::size_t i = 0; i < spread.size(); ++i) mean[i] += 0.5f * spread[i] / total;
  }

  std::int64_t sinks_;
  std::int64_t lag_;
};

}  // namespace

std::unique_ptr<const Scorer> make_lagkv(PolicyOptions& options) {
  const std::int64_t sinks = options.integer("sinks", 4, 0, 1 << 20);
  return std::make_unique<LagKv>(sinks, options.integer("lag", 128, 1, 1 << 20));
}

}  // namespace pikv::scheduling
