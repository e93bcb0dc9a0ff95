// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores that look at keys alone.
#include <algorithm>
#include <cmath>

#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

float norm(const float* x, std::int64_t n) {
  float squares = 0;
  for (std::int64_t i = 0; i < n; ++i) squares += x[i] * x[i];
  return std::sqrt(squares);
}

/// -||k||: keys of small norm attract attention (Devoto et al. 2024, 2406.11430).
class KNorm final : public Scorer {
 public:
  [[nodiscard]] SchedulerNeeds needs() const override { return {.keys = true}; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const View<const float, 2>& keys = slots.heads[h].keys;
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        scores[h][i] = -norm(keys.row(static_cast<std::int64_t>(i)), keys.extent(1));
      }
    }
  }
};

/// -cos(k, a) with a the mean of the unit keys: what differs from the rest is kept (KeyDiff, Park
/// et al. 2025, 2504.15364).
class KeyDiff final : public Scorer {
 public:
  [[nodiscard]] SchedulerNeeds needs() const override { return {.keys = true}; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const View<const float, 2>& keys = slots.heads[h].keys;
      const std::int64_t n = keys.extent(0);
      const std::int64_t dim = keys.extent(1);
      std::vector<double> sum(static_cast<std::size_t>(dim));
      for (std::int64_t i = 0; i < n; ++i) {
        const float length = std::max(norm(keys.row(i), dim), kSmallest);
        for (std::int64_t d = 0; d < dim; ++d) {
          sum[static_cast<std::size_t>(d)] += static_cast<double>(keys.row(i)[d] / length);
        }
      }
      std::vector<float> anchor;
      for (const double x : sum) {
        anchor.push_back(static_cast<float>(x / static_cast<double>(std::max<std::int64_t>(n, 1))));
      }
      const float anchor_length = std::max(norm(anchor.data(), dim), kSmallest);
      for (std::int64_t i = 0; i < n; ++i) {
        float dot = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
          dot += keys.row(i)[d] * anchor[static_cast<std::size_t>(d)];
        }
        const float length = std::max(norm(keys.row(i), dim), kSmallest);
        scores[h][static_cast<std::size_t>(i)] = -dot / (length * anchor_length);
      }
    }
  }

 private:
  static constexpr float kSmallest = 1e-8f;
};

}  // namespace

std::unique_ptr<const Scorer> make_knorm(PolicyOptions&) { return std::make_unique<KNorm>(); }
std::unique_ptr<const Scorer> make_keydiff(PolicyOptions&) { return std::make_unique<KeyDiff>(); }

}  // namespace pikv::scheduling
