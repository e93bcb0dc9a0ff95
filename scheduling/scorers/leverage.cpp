// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Leverage of keys (Compactor, Chari et al. 2025, 2507.08143): with the centred keys before RoPE as
// rows of K, s_j = k_j^T (K^T K + lambda I)^-1 k_j, how little the other keys can stand for key j.
// The published method looks at a random sketch of the channels; all of them, the default here, are
// as cheap for the head sizes in use, and need no randomness.
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/random.hpp"
#include "kernels/cpu/parallel.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/scorers/rotation.hpp"

namespace pikv::scheduling {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class Leverage final : public Scorer {
 public:
  /// `sketch`: how many random channels stand for all; 0: all.
  Leverage(double ridge, std::int64_t sketch, std::uint64_t seed)
      : ridge_(static_cast<float>(ridge)), sketch_(sketch), seed_(seed) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {.keys = true}; }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    kernels::cpu::parallel_for(
        exec, static_cast<std::int64_t>(scores.size()), [&](std::int64_t i, int) {
          const auto h = static_cast<std::size_t>(i);
          if (scores[h].empty()) return;
          const View<const float, 2>& rotated = slots.heads[h].keys;
          const std::vector<float> before_rope =
              unrotated(slots.heads[h], slots.inverse_frequencies);
          Matrix keys =
              Eigen::Map<const Matrix>(before_rope.data(), rotated.extent(0), rotated.extent(1));
          const Eigen::RowVectorXf mean = keys.colwise().mean();
          keys.rowwise() -= mean;
          if (sketch_ > 0) keys *= projection(keys.cols(), (index(slots.layer) << 32) + h);
          Matrix gram = keys.transpose() * keys;
          gram.diagonal().array() += ridge_;
          // With gram = L L^T the score is the squared norm of L^-1 k.
          const Matrix solved = gram.llt().matrixL().solve(keys.transpose());
          const Eigen::RowVectorXf norms = solved.colwise().squaredNorm();
          std::copy_n(norms.data(), norms.size(), scores[h].begin());
        });
  }

 private:
  /// [dim, sketch] Gaussian numbers of variance 1 / sketch, a function of seed and stream.
  [[nodiscard]] Matrix projection(std::int64_t dim, std::uint64_t stream) const {
    Matrix result(dim, sketch_);
    const double scale = 1 / std::sqrt(static_cast<double>(sketch_));
    for (std::int64_t i = 0; i < result.size(); ++i) {
      // Box and Muller; 1 - u keeps the logarithm finite.
      const auto counter = 2 * static_cast<std::uint64_t>(i);
      const double radius = std::sqrt(-2 * std::log(1 - random_uniform(seed_, stream, counter)));
      const double angle = 2 * std::numbers::pi * random_uniform(seed_, stream, counter + 1);
      result.data()[i] = static_cast<float>(scale * radius * std::cos(angle));
    }
    return result;
  }

  float ridge_;
  std::int64_t sketch_;
  std::uint64_t seed_;
};

std::unique_ptr<const Scorer> make(PolicyOptions& options, std::int64_t default_sketch) {
  const double ridge = options.number("ridge", 0.01, 1e-9, 1e9);
  const std::int64_t sketch = options.integer("sketch", default_sketch, 0, 1 << 12);
  const std::int64_t seed = options.integer("seed", 0, 0, INT64_MAX);
  return std::make_unique<Leverage>(ridge, sketch, static_cast<std::uint64_t>(seed));
}

}  // namespace

std::unique_ptr<const Scorer> make_leverage(PolicyOptions& options) { return make(options, 0); }

std::unique_ptr<const Scorer> make_sketched_leverage(PolicyOptions& options) {
  return make(options, 48);
}

}  // namespace pikv::scheduling
