// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// CriticalKV (Feng et al. 2025, 2502.03805): half of the budget goes to the best slots of a base
// method, the other half to the largest s * ||W_o v||_1, what a slot can add to the output.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/linear.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class CriticalKv final : public Scorer {
 public:
  CriticalKv(std::unique_ptr<const Scorer> base, double first_stage)
      : base_(std::move(base)), first_stage_(first_stage) {}

  [[nodiscard]] SchedulerNeeds needs() const override {
    SchedulerNeeds needs = base_->needs();
    needs.values = true;
    needs.output_projection = true;
    return needs;
  }
  [[nodiscard]] Protection protection(std::int64_t budget_slots) const override {
    return base_->protection(budget_slots);
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    base_->score(exec, slots, scores);
    const std::int64_t num_heads = slots.output_projection.extent(0);
    const std::int64_t group = num_heads / static_cast<std::int64_t>(slots.heads.size());
    std::vector<float> norms;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      const auto n = static_cast<std::int64_t>(scores[h].size());
      const std::vector<std::int32_t> order =
          ranked({{head.positions.begin(), head.positions.end()}, scores[h]},
                 base_->protection(slots.budget.of(n, slots.next_position)), slots.next_position);
      projected_norms(exec, slots, h, group, norms);
      for (std::size_t i = 0; i < norms.size(); ++i) {
        scores[h][i] = (scores[h][i] + kEpsilon) * norms[i];
      }
      const auto forced = static_cast<std::size_t>(
          first_stage_ * static_cast<double>(slots.budget.of(n, slots.next_position)));
      // Above everything, in the order of the base.
      const float top = n > 0 ? std::ranges::max(scores[h]) : 0.0f;
      for (std::size_t i = 0; i < forced; ++i) {
        scores[h][static_cast<std::size_t>(order[i])] =
            (top + 1.0f) * (2.0f + static_cast<float>(forced - i) / static_cast<float>(forced));
      }
    }
  }

 private:
  static constexpr float kEpsilon = 1e-4f;
  static constexpr std::int64_t kSlotsAtOnce = 256;

  /// Mean over the group of sum |W_o v|.
  static void projected_norms(Exec& exec, const LayerSlots& slots, std::size_t kv_head,
                              std::int64_t group, std::vector<float>& norms) {
    const View<const float, 2>& values = slots.heads[kv_head].values;
    const std::int64_t n = values.extent(0);
    const std::int64_t dim = values.extent(1);
    const std::int64_t hidden = slots.output_projection.extent(1);
    std::vector<float> projected(static_cast<std::size_t>(std::min(n, kSlotsAtOnce) * hidden));
    norms.assign(static_cast<std::size_t>(n), 0.0f);
    for (std::int64_t g = 0; g < group; ++g) {
      const std::int64_t query_head = static_cast<std::int64_t>(kv_head) * group + g;
      for (std::int64_t begin = 0; begin < n; begin += kSlotsAtOnce) {
        const std::int64_t count = std::min(kSlotsAtOnce, n - begin);
        kernels::linear(
            exec, {.x = {values.row(begin), {count, dim}},
                   .weight = {slots.output_projection.row(query_head), DType::kF32, hidden, dim},
                   .y = {projected.data(), {count, hidden}}});
        Eigen::Map<Eigen::VectorXf>(norms.data() + begin, count) +=
            Eigen::Map<const Matrix>(projected.data(), count, hidden).cwiseAbs().rowwise().sum() /
            static_cast<float>(group);
      }
    }
  }

  std::unique_ptr<const Scorer> base_;
  double first_stage_;
};

}  // namespace

std::unique_ptr<const Scorer> make_criticalkv(PolicyOptions& options) {
  const double first_stage = options.number("first_stage", 0.5, 0.0, 1.0);
  return std::make_unique<CriticalKv>(make_base_scorer(options, "snapkv"), first_stage);
}

}  // namespace pikv::scheduling
