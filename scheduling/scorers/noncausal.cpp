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

#include "kernels/block_attention.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/parallel.hpp"
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
    const auto num_heads = static_cast<std::int64_t>(scores.size());
    const std::int64_t group = slots.queries.extent(1) / num_heads;
    std::vector<std::vector<const float*>> queries(scores.size());
    std::vector<kernels::KeyBlock> blocks;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      queries[h].reserve(scores[h].size());  // blocks point into it
      add_blocks(slots, h, group, queries[h], scores[h], blocks);
    }
    kernels::block_attention(exec, {.blocks = blocks, .group = group});
    kernels::cpu::parallel_for(exec, num_heads, [&](std::int64_t h, int) {
      finish(slots.heads[static_cast<std::size_t>(h)].values, group,
             scores[static_cast<std::size_t>(h)]);
    });
    standardize(scores);
  }

 private:
  /// The blocks of a KV head, each of which adds to its part of `scores`. Slots whose query is not
  /// known ask nothing.
  void add_blocks(const LayerSlots& slots, std::size_t kv_head, std::int64_t group,
                  std::vector<const float*>& queries, std::vector<float>& scores,
                  std::vector<kernels::KeyBlock>& blocks) const {
    const HeadSlots& head = slots.heads[kv_head];
    const std::int64_t dim = head.keys.extent(1);
    const auto n = static_cast<std::int64_t>(scores.size());
    std::ranges::fill(scores, 0.0f);
    auto known = slots.query_positions.begin();
    for (std::int64_t begin = 0; begin < n; begin += options_.block) {
      const std::int64_t count = std::min(options_.block, n - begin);
      const std::size_t first_query = queries.size();
      for (std::int64_t i = begin; i < begin + count; ++i) {
        const Position own = head.positions[static_cast<std::size_t>(i)];
        while (known != slots.query_positions.end() && *known < own) ++known;
        if (known == slots.query_positions.end() || *known != own) continue;
        queries.push_back(slots.queries.row(known - slots.query_positions.begin()) +
                          static_cast<std::int64_t>(kv_head) * group * dim);
      }
      blocks.push_back({.queries = std::span(queries).subspan(first_query),
                        .keys = {head.keys.row(begin), {count, dim}},
                        .num_zero_keys = num_padded(count),
                        .received = scores.data() + begin});
    }
  }

  /// Keys that fill the last block; they are zero.
  [[nodiscard]] std::int64_t num_padded(std::int64_t count) const {
    return options_.padded ? options_.block - count : 0;
  }

  /// From what the slots of a KV head received to scores. The queries that fill a block are zero
  /// too, and give each of its keys the same.
  void finish(const View<const float, 2>& values, std::int64_t group,
              std::vector<float>& scores) const {
    const auto n = static_cast<std::int64_t>(scores.size());
    const float share = 1.0f / static_cast<float>(group);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t count = std::min(options_.block, n - i / options_.block * options_.block);
      const float padding =
          static_cast<float>(num_padded(count)) / static_cast<float>(options_.block);
      scores[static_cast<std::size_t>(i)] = scores[static_cast<std::size_t>(i)] * share + padding;
    }
    Eigen::Map<Eigen::VectorXf>(scores.data(), n).array() *=
        Eigen::Map<const Matrix>(values.data, n, values.extent(1)).rowwise().norm().array();
    smooth(scores, options_.kernel);
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
