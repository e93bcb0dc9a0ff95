// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention without a causal mask, block by block (Compactor, Chari et al. 2025, 2507.08143): each
// query of a block looks at all keys of the block, softmax(q . k) without 1 / sqrt(D) as published;
// a key gets the sum of what it receives, averaged over the group, times the norm of its value,
// smoothed over neighbours. In contrast to causal attention, early keys have no more readers than
// late ones.
#include <Eigen/Core>
#include <algorithm>
#include <limits>

#include "kernels/common/error.hpp"
#include "kernels/linear.hpp"
#include "kernels/softmax.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/scorers/standardize.hpp"
#include "scheduling/smoothing.hpp"

namespace pikv::scheduling {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class NonCausal final : public Scorer {
 public:
  struct Options {
    std::int64_t block;
    std::int64_t kernel;
    bool padded;
  };
  explicit NonCausal(const Options& options) : options_(options) {}

  /// The query of every slot: as many bytes as the keys of all query heads.
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.query_rows = std::numeric_limits<Position>::max(), .keys = true, .values = true};
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    Buffers buffers;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const auto n = static_cast<std::int64_t>(scores[h].size());
      for (std::int64_t begin = 0; begin < n; begin += options_.block) {
        const std::int64_t count = std::min(options_.block, n - begin);
        add_received(exec, slots, h, begin, buffers,
                     std::span(scores[h]).subspan(static_cast<std::size_t>(begin),
                                                  static_cast<std::size_t>(count)));
      }
      const View<const float, 2>& values = slots.heads[h].values;
      Eigen::Map<Eigen::VectorXf>(scores[h].data(), n).array() *=
          Eigen::Map<const Matrix>(values.data, n, values.extent(1)).rowwise().norm().array();
      smooth(scores[h], options_.kernel);
    }
    standardize(scores);
  }

 private:
  struct Buffers {
    std::vector<float> queries;  // [w * G, D], w <= block
    std::vector<float> keys;     // [width, D]
    std::vector<float> logits;   // [w * G, width]
    std::vector<std::int32_t> lengths;
  };

  /// received[i]: what slot begin + i of a KV head gets from the queries of its block. Slots whose
  /// query is not known ask nothing.
  void add_received(Exec& exec, const LayerSlots& slots, std::size_t kv_head, std::int64_t begin,
                    Buffers& buffers, std::span<float> received) const {
    const HeadSlots& head = slots.heads[kv_head];
    const auto count = static_cast<std::int64_t>(received.size());
    const std::int64_t dim = head.keys.extent(1);
    const std::int64_t group =
        slots.queries.extent(1) / static_cast<std::int64_t>(slots.heads.size());
    buffers.queries.clear();
    for (const Position p :
         head.positions.subspan(static_cast<std::size_t>(begin), received.size())) {
      const auto found = std::ranges::lower_bound(slots.query_positions, p);
      if (found == slots.query_positions.end() || *found != p) continue;
      const float* row = slots.queries.row(found - slots.query_positions.begin()) +
                         static_cast<std::int64_t>(kv_head) * group * dim;
      buffers.queries.insert(buffers.queries.end(), row, row + group * dim);
    }
    const auto rows = static_cast<std::int64_t>(buffers.queries.size()) / dim;
    // Padded keys are zero, and so are their logits.
    const std::int64_t width = options_.padded ? options_.block : count;
    buffers.keys.assign(head.keys.row(begin), head.keys.row(begin) + count * dim);
    buffers.keys.resize(static_cast<std::size_t>(width * dim));
    buffers.logits.resize(static_cast<std::size_t>(rows * width));
    kernels::linear(exec, {.x = {buffers.queries.data(), {rows, dim}},
                           .weight = {buffers.keys.data(), DType::kF32, width, dim},
                           .y = {buffers.logits.data(), {rows, width}}});
    buffers.lengths.assign(static_cast<std::size_t>(rows), static_cast<std::int32_t>(width));
    kernels::softmax(exec, {.x = {buffers.logits.data(), {rows, width}},
                            .lengths = {buffers.lengths.data(), {rows}}});
    std::ranges::fill(received,
                      static_cast<float>(width - count) / static_cast<float>(options_.block));
    const float share = 1.0f / static_cast<float>(group);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* row = buffers.logits.data() + r * width;
      for (std::size_t i = 0; i < received.size(); ++i) received[i] += row[i] * share;
    }
  }

  Options options_;
};

}  // namespace

std::unique_ptr<const Scorer> make_noncausal(PolicyOptions& options) {
  const std::int64_t block = options.integer("block", 256, 1, 1 << 16);
  const std::int64_t kernel = options.integer("kernel", 3, 1, 1 << 10);
  require(kernel % 2 == 1, "noncausal", "kernel = ", kernel, " is not odd");
  // kvpress 0.5.4 fills the last block with zero keys and queries, which attend and are attended
  // to.
  const bool padded = options.integer("padded", 0, 0, 1) != 0;
  return std::make_unique<NonCausal>(
      NonCausal::Options{.block = block, .kernel = kernel, .padded = padded});
}

}  // namespace pikv::scheduling
