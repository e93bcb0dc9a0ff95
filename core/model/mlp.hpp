// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Gated feed-forward networks: one, or the experts of a mixture that this rank holds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/weights.hpp"
#include "core/policy/shard_map.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"
#include "kernels/linear.hpp"

namespace pikv {

[[nodiscard]] std::size_t weight_bytes(const MlpWeights& weights);

/// y = down(silu(gate x) * up x), for groups of rows with different weights at once.
class Mlp {
 public:
  explicit Mlp(Exec& exec) : exec_(exec), gate_(exec.device()), up_(exec.device()) {}

  /// Rows [row_begin, row_end) of x and y.
  struct Group {
    const MlpWeights* weights;
    std::int64_t row_begin;
    std::int64_t row_end;
  };
  /// The weights of all groups have the same shape.
  void run(std::span<const Group> groups, View<const float, 2> x, View<float, 2> y);

 private:
  Exec& exec_;
  DeviceBuffer<float> gate_;
  DeviceBuffer<float> up_;
  std::vector<kernels::LinearArgs> products_;
};

/// Runs rows through the experts chosen for them: y[t] = sum_k weights[t, k] expert[t, k](x[t]).
class ExpertMlps {
 public:
  explicit ExpertMlps(Exec& exec);

  struct Args {
    const MoeWeights& weights;
    View<const float, 2> x;               // [T, hidden]
    View<const std::int32_t, 2> experts;  // [T, K], on the host; negative: not computed here
    View<const float, 2> mix;             // [T, K]
    View<float, 2> y;                     // [T, hidden], overwritten
  };
  void run(const Args& args);
  /// The same on a GPU, which names all experts to itself, and knows which are here.
  void run_on_gpu(const Args& args);

  /// Bytes of the experts that had a row, summed over all runs.
  [[nodiscard]] std::uint64_t weight_bytes_read() const { return weight_bytes_read_; }

 private:
  Exec& exec_;
  Mlp mlp_;
  std::vector<Mlp::Group> groups_;
  std::uint64_t weight_bytes_read_ = 0;
  std::vector<std::int32_t> begin_;   // [E + 1]: first sorted row of each expert
  std::vector<std::int32_t> cursor_;  // [E]
  std::vector<std::int32_t> slots_;   // [T, K]: sorted row of each choice, or -1
  std::vector<std::int32_t> rows_;    // [S]: token of each sorted row
  DeviceBuffer<float> sorted_;        // [S, hidden]
  DeviceBuffer<float> inner_;         // on a GPU, [T * K, width]
  DeviceBuffer<std::int32_t> pairs_;  // the same
  DeviceBuffer<float> outputs_;       // [S, hidden]
};

}  // namespace pikv
