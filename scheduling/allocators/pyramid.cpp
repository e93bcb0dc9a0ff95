// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "scheduling/allocators/makers.hpp"

namespace pikv::scheduling {
namespace {

class Pyramid final : public Allocator {
 public:
  Pyramid(double beta, std::int64_t window) : beta_(beta), window_(window) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    const std::size_t num_layers = counts.size() / num_heads;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t n = static_cast<std::int64_t>(scores.heads[i].positions.size());
      counts[i] =
          std::clamp<std::int64_t>(budget_of_layer(n, budget, static_cast<double>(i / num_heads),
                                                   static_cast<double>(num_layers)),
                                   std::min<std::int64_t>(n, 1), n);
    }
  }

 private:
  [[nodiscard]] std::int64_t budget_of_layer(std::int64_t n, const KvBudget& budget, double layer,
                                             double num_layers) const {
    const auto length = static_cast<double>(n);
    const auto window = static_cast<double>(window_);
    double mean = budget.fraction ? length * *budget.fraction : length;
    if (budget.slots) mean = std::min(mean, static_cast<double>(*budget.slots));
    double least = mean / beta_;
    double most = 2 * mean - least;
    if (most >= length - window) {
      most = length - window;
      least = 2 * mean - most;
    }
    if (!(length >= most && most >= least && least >= window)) {
      return static_cast<std::int64_t>(std::nearbyint(mean));
    }
    const double step = num_layers > 1 ? (most - least) / (num_layers - 1) : 0;
    return static_cast<std::int64_t>(std::nearbyint(most - layer * step));
  }

  double beta_;
  std::int64_t window_;
};

/// Whole numbers, and the window beside them.
class FactoryPyramid final : public Allocator {
 public:
  FactoryPyramid(double beta, std::int64_t window) : beta_(beta), window_(window) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    const auto num_heads = static_cast<std::size_t>(scores.num_kv_heads);
    const auto num_layers = static_cast<std::int64_t>(counts.size() / num_heads);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t n = static_cast<std::int64_t>(scores.heads[i].positions.size());
      const std::int64_t share = budget.of(scores.next_position, scores.next_position);
      counts[i] = std::clamp<std::int64_t>(
          budget_of_layer(n, share, static_cast<std::int64_t>(i / num_heads), num_layers),
          std::min<std::int64_t>(n, 1), n);
    }
  }

 private:
  [[nodiscard]] std::int64_t budget_of_layer(std::int64_t n, std::int64_t share, std::int64_t layer,
                                             std::int64_t num_layers) const {
    const std::int64_t past = share - window_;
    if (n <= share || past <= 0 || n < 2 * past) return share;
    auto least = static_cast<std::int64_t>(static_cast<double>(past) / beta_);
    std::int64_t most = 2 * past - least;
    if (most >= n - window_) {
      most = n - window_;
      least = 2 * past - most;
    }
    const std::int64_t step = num_layers > 1 ? (most - least) / (num_layers - 1) : 0;
    return most - layer * step + window_;
  }

  double beta_;
  std::int64_t window_;
};

}  // namespace

std::unique_ptr<const Allocator> make_factory_pyramid_allocator(double beta, std::int64_t window) {
  return std::make_unique<FactoryPyramid>(beta, window);
}

std::unique_ptr<const Allocator> make_pyramid_allocator(double beta, std::int64_t window) {
  return std::make_unique<Pyramid>(beta, window);
}

}  // namespace pikv::scheduling
