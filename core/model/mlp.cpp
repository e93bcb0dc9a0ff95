// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/mlp.hpp"

#include <algorithm>

#include "kernels/elementwise.hpp"
#include "kernels/experts.hpp"
#include "kernels/rows.hpp"

namespace pikv {
std::size_t weight_bytes(const MlpWeights& weights) {
  return weights.gate.bytes() + weights.up.bytes() + weights.down.bytes();
}

void Mlp::run(std::span<const Group> groups, View<const float, 2> x, View<float, 2> y) {
  if (groups.empty()) return;
  const std::int64_t width = groups.front().weights->gate.rows;
  const std::array inner{x.extent(0), width};
  gate_.resize_discard(static_cast<std::size_t>(inner[0] * inner[1]));
  up_.resize_discard(gate_.size());
  const View<float, 2> gate{gate_.data(), inner};
  const View<float, 2> up{up_.data(), inner};
  const auto rows_of = [](auto view, const Group& group) {
    view.data = view.row(group.row_begin);
    view.extents[0] = group.row_end - group.row_begin;
    return view;
  };

  products_.clear();
  for (const Group& group : groups) {
    const MlpWeights& w = *group.weights;
    products_.push_back({.x = rows_of(x, group),
                         .weight = w.gate,
                         .bias = data_or_null(w.gate_bias),
                         .y = rows_of(gate, group)});
    products_.push_back({.x = rows_of(x, group),
                         .weight = w.up,
                         .bias = data_or_null(w.up_bias),
                         .y = rows_of(up, group)});
  }
  kernels::linears(exec_, products_);
  kernels::silu_mul(exec_, {.gate = gate, .up = up, .out = gate});
  products_.clear();
  for (const Group& group : groups) {
    products_.push_back({.x = rows_of(View<const float, 2>(gate), group),
                         .weight = group.weights->down,
                         .bias = data_or_null(group.weights->down_bias),
                         .y = rows_of(y, group)});
  }
  kernels::linears(exec_, products_);
}

ExpertMlps::ExpertMlps(Exec& exec)
    : exec_(exec),
      mlp_(exec),
      sorted_(exec.device()),
      inner_(exec.device()),
      pairs_(exec.device()),
      outputs_(exec.device()) {}

void ExpertMlps::run_on_gpu(const Args& args) {
  const WeightView& gate = args.weights.experts.front().gate;
  const std::int64_t num_pairs = args.experts.size();
  const std::int64_t num_words = kernels::num_expert_words(num_pairs, args.weights.table.size());
  inner_.resize_discard(static_cast<std::size_t>(num_pairs * gate.rows));
  outputs_.resize_discard(static_cast<std::size_t>(num_pairs * gate.cols));
  pairs_.resize_discard(static_cast<std::size_t>(num_words));
  const auto num_here = std::ranges::count_if(
      args.weights.experts, [](const MlpWeights& w) { return w.gate.data != nullptr; });
  kernels::experts(exec_, {.x = args.x,
                           .experts = args.experts,
                           .mix = args.mix,
                           .table = args.weights.table,
                           .some_elsewhere = num_here < args.weights.table.size(),
                           .dtype = gate.dtype,
                           .inner = {inner_.data(), {num_pairs, gate.rows}},
                           .outputs = {outputs_.data(), {num_pairs, gate.cols}},
                           .pairs = {pairs_.data(), {num_words}},
                           .y = args.y});
  // Which experts rows share is known to the GPU alone: as many as rows named, or all.
  const auto num_read = static_cast<std::uint64_t>(std::min<std::int64_t>(num_pairs, num_here));
  weight_bytes_read_ += num_read * weight_bytes(args.weights.experts.front());
}

void ExpertMlps::run(const Args& args) {
  const auto num_experts = args.weights.experts.size();
  const auto num_choices = static_cast<std::size_t>(args.experts.size());
  const std::int64_t k = args.experts.extent(1);
  const std::int64_t hidden = args.x.extent(1);

  // Counting sort of the choices by expert; rows of one expert keep the order of their tokens.
  begin_.assign(num_experts + 1, 0);
  for (std::size_t i = 0; i < num_choices; ++i) {
    const std::int32_t expert = args.experts.data[i];
    if (expert >= 0) ++begin_[static_cast<std::size_t>(expert) + 1];
  }
  for (std::size_t e = 0; e < num_experts; ++e) begin_[e + 1] += begin_[e];
  cursor_.assign(begin_.begin(), begin_.end() - 1);
  slots_.resize(num_choices);
  rows_.resize(static_cast<std::size_t>(begin_.back()));
  for (std::size_t i = 0; i < num_choices; ++i) {
    const std::int32_t expert = args.experts.data[i];
    slots_[i] = expert >= 0 ? cursor_[static_cast<std::size_t>(expert)]++ : -1;
    if (expert >= 0) {
      rows_[static_cast<std::size_t>(slots_[i])] =
          static_cast<std::int32_t>(static_cast<std::int64_t>(i) / k);
    }
  }

  const std::array sorted_shape{static_cast<std::int64_t>(rows_.size()), hidden};
  sorted_.resize_discard(rows_.size() * static_cast<std::size_t>(hidden));
  outputs_.resize_discard(sorted_.size());
  const View<float, 2> sorted{sorted_.data(), sorted_shape};
  const View<float, 2> outputs{outputs_.data(), sorted_shape};
  kernels::gather_rows(exec_, {.table = {args.x.data, DType::kF32, args.x.extent(0), hidden},
                               .indices = {exec_.on_device(rows_), {sorted_shape[0]}},
                               .out = sorted});
  groups_.clear();
  for (std::size_t e = 0; e < num_experts; ++e) {
    if (begin_[e] == begin_[e + 1]) continue;
    groups_.push_back({&args.weights.experts[e], begin_[e], begin_[e + 1]});
    weight_bytes_read_ += weight_bytes(args.weights.experts[e]);
  }
  mlp_.run(groups_, sorted, outputs);
  clear_bytes(exec_, args.y.data, static_cast<std::size_t>(args.y.size()) * sizeof(float));
  kernels::combine_rows(exec_, {.rows = outputs,
                                .slots = {exec_.on_device(slots_), args.experts.extents},
                                .weights = args.mix,
                                .out = args.y});
}

}  // namespace pikv
