// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Expected Attention (Devoto et al. 2025, 2510.00636): queries to come are Gaussian with the mean
// mu and covariance S of those seen, turned by the average rotation R over the next positions. The
// expected weight of key k is then softmax(R mu . k / sqrt(D) + k^T R S R^T k / (2 D)), times the
// norm of its value.
#include <algorithm>
#include <cmath>

#include "kernels/linear.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/scorers/rotation.hpp"

namespace pikv::scheduling {
namespace {

class ExpectedAttention final : public Scorer {
 public:
  ExpectedAttention(std::int64_t future, std::int64_t sinks, double epsilon)
      : future_(future), sinks_(sinks), epsilon_(static_cast<float>(epsilon)) {}
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.query_moments = true, .keys = true, .values = true};
  }
  [[nodiscard]] Protection protection(std::int64_t) const override {
    return {.sinks = sinks_, .recents = 0};
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    if (slots.moments.count == 0) return;  // no query to learn from: all are equal
    const std::int64_t num_heads = slots.moments.mean.extent(0);
    const std::int64_t dim = slots.moments.mean.extent(1);
    const std::int64_t group = num_heads / static_cast<std::int64_t>(slots.heads.size());
    const Rotation rotation =
        average_rotation(slots.inverse_frequencies, slots.next_position, future_);
    std::vector<float> mean(static_cast<std::size_t>(dim));
    std::vector<float> covariance(static_cast<std::size_t>(dim * dim));
    std::vector<float> products;
    std::vector<float> weights;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      const std::int64_t n = head.keys.extent(0);
      std::ranges::fill(scores[h], 0.0f);
      for (std::int64_t g = 0; g < group; ++g) {
        const std::int64_t query_head = static_cast<std::int64_t>(h) * group + g;
        std::copy_n(slots.moments.mean.row(query_head), dim, mean.begin());
        rotation.turn(mean.data(), 1, 1);
        std::copy_n(slots.moments.covariance.row(query_head), dim * dim, covariance.begin());
        for (std::int64_t i = 0; i < dim; ++i) rotation.turn(covariance.data() + i * dim, 1, 1);
        rotation.turn(covariance.data(), dim, dim);
        products.resize(static_cast<std::size_t>(n * dim));
        kernels::linear(exec, {.x = head.keys,
                               .weight = {covariance.data(), DType::kF32, dim, dim},
                               .y = {products.data(), {n, dim}}});
        expected_weights(head, mean, products, weights);
        for (std::size_t i = 0; i < weights.size(); ++i) {
          scores[h][i] += weights[i] / static_cast<float>(group);
        }
      }
      for (std::int64_t i = 0; i < n; ++i) {
        float squares = 0;
        for (std::int64_t d = 0; d < dim; ++d)
          squares += head.values.row(i)[d] * head.values.row(i)[d];
        float& score = scores[h][static_cast<std::size_t>(i)];
        score = (score + epsilon_) * std::sqrt(squares);
      }
    }
  }

 private:
  /// Softmax over the slots after the sinks; the sinks get 0.
  void expected_weights(const HeadSlots& head, const std::vector<float>& mean,
                        const std::vector<float>& products, std::vector<float>& weights) const {
    const std::int64_t n = head.keys.extent(0);
    const std::int64_t dim = head.keys.extent(1);
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    weights.assign(static_cast<std::size_t>(n), 0.0f);
    const std::int64_t begin =
        std::ranges::lower_bound(head.positions, static_cast<Position>(sinks_)) -
        head.positions.begin();
    float largest = -INFINITY;
    for (std::int64_t i = begin; i < n; ++i) {
      float first = 0;
      float second = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        first += mean[static_cast<std::size_t>(d)] * head.keys.row(i)[d];
        second += products[static_cast<std::size_t>(i * dim + d)] * head.keys.row(i)[d];
      }
      weights[static_cast<std::size_t>(i)] =
          first * scale + 0.5f * second / static_cast<float>(dim);
      largest = std::max(largest, weights[static_cast<std::size_t>(i)]);
    }
    float total = 0;
    for (std::int64_t i = begin; i < n; ++i) {
      float& weight = weights[static_cast<std::size_t>(i)];
      total += weight = std::exp(weight - largest);
    }
    for (std::int64_t i = begin; i < n; ++i) weights[static_cast<std::size_t>(i)] /= total;
  }

  std::int64_t future_;
  std::int64_t sinks_;
  float epsilon_;
};

}  // namespace

std::unique_ptr<const Scorer> make_expected_attention(PolicyOptions& options) {
  const std::int64_t future = options.integer("future", 512, 1, 1 << 20);
  const std::int64_t sinks = options.integer("sinks", 4, 0, 1 << 20);
  return std::make_unique<ExpectedAttention>(future, sinks,
                                             options.number("epsilon", 0.0, 0.0, 1e6));
}

}  // namespace pikv::scheduling
