// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Leverage of keys (Compactor, Chari et al. 2025, 2507.08143): with the centred keys before RoPE as
// rows of K, s_j = k_j^T (K^T K + lambda I)^-1 k_j, how little the other keys can stand for key j.
// The published method looks at a random sketch of the channels; all of them are as cheap for the
// head sizes in use, and need no randomness.
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class Leverage final : public Scorer {
 public:
  explicit Leverage(double ridge) : ridge_(static_cast<float>(ridge)) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {.keys = true}; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      if (scores[h].empty()) continue;
      Matrix keys = unrotated(slots.heads[h], slots.inverse_frequencies);
      const Eigen::RowVectorXf mean = keys.colwise().mean();
      keys.rowwise() -= mean;
      Matrix gram = keys.transpose() * keys;
      gram.diagonal().array() += ridge_;
      // With gram = L L^T the score is the squared norm of L^-1 k.
      const Matrix solved = gram.llt().matrixL().solve(keys.transpose());
      const Eigen::RowVectorXf norms = solved.colwise().squaredNorm();
      std::copy_n(norms.data(), norms.size(), scores[h].begin());
    }
  }

 private:
  /// Keys as they were before RoPE turned channels d and d + D / 2 by position * frequency.
  static Matrix unrotated(const HeadSlots& head, std::span<const float> frequencies) {
    const std::int64_t n = head.keys.extent(0);
    const std::int64_t half = head.keys.extent(1) / 2;
    Matrix keys = Eigen::Map<const Matrix>(head.keys.data, n, head.keys.extent(1));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t d = 0; d < half; ++d) {
        const double angle = static_cast<double>(frequencies[static_cast<std::size_t>(d)]) *
                             static_cast<double>(head.positions[static_cast<std::size_t>(i)]);
        const auto cos = static_cast<float>(std::cos(angle));
        const auto sin = static_cast<float>(std::sin(angle));
        const float low = keys(i, d);
        const float high = keys(i, d + half);
        keys(i, d) = cos * low + sin * high;
        keys(i, d + half) = cos * high - sin * low;
      }
    }
    return keys;
  }

  float ridge_;
};

}  // namespace

std::unique_ptr<const Scorer> make_leverage(PolicyOptions& options) {
  return std::make_unique<Leverage>(options.number("ridge", 0.01, 1e-9, 1e9));
}

}  // namespace pikv::scheduling
