// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// CapKV (2604.25975, as kvpress has it): what each value adds to the information that the cache can
// give. With w_j = exp(tau cos(k_j, mu)) for the mean query mu turned to the positions to come, and
// A = I + sum_j w_j v_j v_j^T, the score is w_j v_j^T A^-1 v_j, averaged over the group. w is
// scaled to a largest of 1 in each head.
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/scorers/rotation.hpp"

namespace pikv::scheduling {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixView = Eigen::Map<const Matrix>;

class CapKv final : public Scorer {
 public:
  CapKv(double tau, std::int64_t future, std::int64_t sinks)
      : tau_(static_cast<float>(tau)), future_(future), sinks_(sinks) {}
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.query_moments = true, .keys = true, .values = true};
  }
  [[nodiscard]] Protection protection(std::int64_t) const override {
    return {.sinks = sinks_, .recents = 0};
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    for (std::vector<float>& head : scores) std::ranges::fill(head, 0.0f);
    if (slots.moments.count == 0) return;  // no query to learn from: all are equal
    const std::int64_t dim = slots.moments.mean.extent(1);
    const auto group = slots.moments.mean.extent(0) / static_cast<std::int64_t>(slots.heads.size());
    const Rotation rotation =
        average_rotation(slots.inverse_frequencies, slots.next_position, future_);
    std::vector<Eigen::VectorXf> capacities(static_cast<std::size_t>(group));
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      const std::int64_t begin =
          std::ranges::lower_bound(head.positions, static_cast<Position>(sinks_)) -
          head.positions.begin();
      const std::int64_t n = head.keys.extent(0) - begin;
      if (n == 0) continue;
      const MatrixView keys(head.keys.row(begin), n, dim);
      const MatrixView values(head.values.row(begin), n, dim);
      Eigen::Map<Eigen::VectorXf> sum(scores[h].data() + begin, n);
      kernels::cpu::parallel_for(exec, group, [&](std::int64_t g, int) {
        std::vector<float> mean(static_cast<std::size_t>(dim));
        std::copy_n(slots.moments.mean.row(static_cast<std::int64_t>(h) * group + g), dim,
                    mean.begin());
        rotation.turn(mean.data(), 1, 1);
        capacities[static_cast<std::size_t>(g)] =
            capacity(keys, values, Eigen::Map<const Eigen::VectorXf>(mean.data(), dim));
      });
      for (const Eigen::VectorXf& capacity : capacities) sum += capacity;
      sum /= static_cast<float>(group);
    }
  }

 private:
  /// Scores of the n slots for one query head.
  [[nodiscard]] Eigen::VectorXf capacity(const MatrixView& keys, const MatrixView& values,
                                         const Eigen::Map<const Eigen::VectorXf>& mean) const {
    constexpr float kSmallest = 1e-12f;  // length of a vector without direction
    constexpr float kEpsilon = 1e-6f;    // added to the weights in A, as published
    const Eigen::VectorXf lengths = keys.rowwise().norm().cwiseMax(kSmallest);
    Eigen::VectorXf weights = keys * mean / std::max(mean.norm(), kSmallest);
    weights = weights.cwiseQuotient(lengths).cwiseMax(-1.0f).cwiseMin(1.0f);
    weights = ((weights.array() - weights.maxCoeff()) * tau_).exp();
    const Matrix scaled = (weights.array() + kEpsilon).sqrt().matrix().asDiagonal() * values;
    Matrix a = scaled.transpose() * scaled;
    a.diagonal().array() += 1.0f;
    // With A = L L^T, v^T A^-1 v is the squared norm of L^-1 v.
    const Matrix solved = a.llt().matrixL().solve(values.transpose());
    return weights.cwiseProduct(solved.colwise().squaredNorm().transpose());
  }

  float tau_;
  std::int64_t future_;
  std::int64_t sinks_;
};

}  // namespace

std::unique_ptr<const Scorer> make_capkv(PolicyOptions& options) {
  const double tau = options.number("tau", 5, 0, 80);
  const std::int64_t future = options.integer("future", 512, 1, 1 << 20);
  return std::make_unique<CapKv>(tau, future, options.integer("sinks", 4, 0, 1 << 20));
}

}  // namespace pikv::scheduling
