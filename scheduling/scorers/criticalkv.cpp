// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// CriticalKV (Feng et al. 2025, 2502.03805): half of the budget goes to the best slots of a base
// method, the other half to the largest s * ||W_o v||_1, what a slot can add to the output.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "kernels/linear.hpp"
#include "scheduling/allocators/makers.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr float kEpsilon = 1e-4f;
constexpr std::int64_t kSlotsAtOnce = 256;

/// Mean over the group of sum |W_o v|.
void projected_norms(Exec& exec, const LayerSlots& slots, std::size_t kv_head,
                     std::vector<float>& norms) {
  const std::int64_t group =
      slots.output_projection.extent(0) / static_cast<std::int64_t>(slots.heads.size());
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

/// From the scores of the base to those of both stages: the best `num_forced` stay in their order,
/// above everything.
void add_stages(Exec& exec, const LayerSlots& slots, std::size_t kv_head,
                const Protection& protection, std::size_t num_forced, std::vector<float>& scores) {
  const HeadSlots& head = slots.heads[kv_head];
  const std::vector<std::int32_t> order = ranked(
      {{head.positions.begin(), head.positions.end()}, scores}, protection, slots.next_position);
  std::vector<float> norms;
  projected_norms(exec, slots, kv_head, norms);
  for (std::size_t i = 0; i < norms.size(); ++i) scores[i] = (scores[i] + kEpsilon) * norms[i];
  const float top = scores.empty() ? 0.0f : std::ranges::max(scores);
  for (std::size_t i = 0; i < num_forced; ++i) {
    scores[static_cast<std::size_t>(order[i])] =
        (top + 1.0f) * (2.0f + static_cast<float>(num_forced - i) / static_cast<float>(num_forced));
  }
}

SchedulerNeeds with_projection(SchedulerNeeds needs) {
  needs.values = true;
  needs.output_projection = true;
  return needs;
}

class CriticalKv final : public Scorer {
 public:
  CriticalKv(std::unique_ptr<const Scorer> base, double first_stage)
      : base_(std::move(base)), first_stage_(first_stage) {}

  [[nodiscard]] SchedulerNeeds needs() const override { return with_projection(base_->needs()); }
  [[nodiscard]] Protection protection(std::int64_t budget_slots) const override {
    return base_->protection(budget_slots);
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    base_->score(exec, slots, scores);
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const std::int64_t budget =
          slots.budget.of(static_cast<std::int64_t>(scores[h].size()), slots.next_position);
      add_stages(exec, slots, h, base_->protection(budget),
                 static_cast<std::size_t>(first_stage_ * static_cast<double>(budget)), scores[h]);
    }
  }

 private:
  std::unique_ptr<const Scorer> base_;
  double first_stage_;
};

class CriticalAda final : public Scorer {
 public:
  CriticalAda(std::unique_ptr<const Scorer> base, double first_stage, double floor)
      : base_(std::move(base)), allocator_(make_ada_allocator(floor)), first_stage_(first_stage) {}

  [[nodiscard]] SchedulerNeeds needs() const override { return with_projection(base_->needs()); }
  [[nodiscard]] Protection protection(std::int64_t budget_slots) const override {
    return base_->protection(budget_slots);
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    base_->score(exec, slots, scores);
    const Position next = slots.next_position;
    const Protection protection = base_->protection(slots.budget.of(next, next));
    SequenceScores layer{.sequence = slots.sequence,
                         .next_position = next,
                         .num_context = slots.num_context,
                         .num_kv_heads = static_cast<std::int64_t>(scores.size()),
                         .heads = {}};
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const auto& positions = slots.heads[h].positions;
      layer.heads.push_back({{positions.begin(), positions.end()}, scores[h]});
    }
    std::vector<std::int64_t> counts(scores.size());
    allocator_->allocate(layer, slots.budget, protection, counts);
    for (std::size_t h = 0; h < scores.size(); ++h) {
      add_stages(exec, slots, h, protection,
                 static_cast<std::size_t>(first_stage_ * static_cast<double>(counts[h])),
                 layer.heads[h].scores);
      const std::vector<std::int32_t> order = ranked(layer.heads[h], protection, next);
      for (std::size_t i = 0; i < order.size(); ++i) {
        scores[h][static_cast<std::size_t>(order[i])] =
            static_cast<float>(counts[h] - static_cast<std::int64_t>(i));
      }
    }
  }

 private:
  std::unique_ptr<const Scorer> base_;
  std::unique_ptr<const Allocator> allocator_;
  double first_stage_;
};

}  // namespace

std::unique_ptr<const Scorer> make_criticalkv(PolicyOptions& options) {
  const double first_stage = options.number("first_stage", 0.5, 0.0, 1.0);
  return std::make_unique<CriticalKv>(make_base_scorer(options, "snapkv"), first_stage);
}

std::unique_ptr<const Scorer> make_critical_ada_scorer(std::unique_ptr<const Scorer> base,
                                                       double first_stage, double floor) {
  return std::make_unique<CriticalAda>(std::move(base), first_stage, floor);
}

}  // namespace pikv::scheduling
