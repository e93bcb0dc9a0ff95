// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/block_attention.hpp"

#include <algorithm>
#include <limits>

#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/score_block.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// Keys are transposed in strips of so many vectors, a product of registers wide: with 64 channels a
// strip takes half of the first-level cache.
constexpr std::int64_t kStripLanes = 4;
constexpr std::int64_t kStripKeys = kStripLanes * kVecLanes;
// Query rows, times heads of the group, whose weights exist at a time: a multiple of the six that
// share a pass over a strip.
constexpr std::int64_t kTileRows = 24;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// One block on one thread.
class Block {
 public:
  Block(Exec& exec, const KeyBlock& block, std::int64_t group, int thread_idx)
      : block_(block),
        group_(group),
        num_keys_(block.keys.extent(0)),
        dim_(block.keys.extent(1)),
        num_lanes_((num_keys_ + kVecLanes - 1) / kVecLanes),
        stride_(num_lanes_ * kVecLanes) {
    const std::int64_t num_strips = (num_lanes_ + kStripLanes - 1) / kStripLanes;
    const std::int64_t key_floats = num_strips * kStripKeys * dim_;
    keys_ = exec.scratch(thread_idx, static_cast<std::size_t>(key_floats + kTileRows * stride_ +
                                                              stride_ + kTileRows * dim_));
    weights_ = keys_ + key_floats;
    received_ = weights_ + kTileRows * stride_;
    q_ = received_ + stride_;
  }

  void run() {
    transpose_keys();
    std::fill_n(received_, stride_, 0.0f);
    const std::int64_t num_rows = static_cast<std::int64_t>(block_.queries.size()) * group_;
    for (std::int64_t row = 0; row < num_rows; row += kTileRows) {
      const std::int64_t count = std::min(kTileRows, num_rows - row);
      gather_queries(row, count);
      score(count);
      for (std::int64_t r = 0; r < count; ++r) shares_[r] = exponentiate(weights_ + r * stride_);
      add_weights(count);
    }
    for (std::int64_t i = 0; i < num_keys_; ++i) block_.received[i] += received_[i];
  }

 private:
  /// [strips, D, kStripKeys]; what is missing of the last vector is zero.
  void transpose_keys() {
    for (std::int64_t first = 0; first < stride_; first += kVecLanes) {
      float* to = keys_ + first / kStripKeys * kStripKeys * dim_ + first % kStripKeys;
      const std::int64_t count = std::min(kVecLanes, num_keys_ - first);
      for (std::int64_t d = 0; d < dim_; ++d) {
        const float* from = block_.keys.row(first) + d;
        float* lanes = to + d * kStripKeys;
        for (std::int64_t i = 0; i < count; ++i) lanes[i] = from[i * dim_];
        std::fill(lanes + count, lanes + kVecLanes, 0.0f);
      }
    }
  }

  void gather_queries(std::int64_t first, std::int64_t count) {
    for (std::int64_t r = 0; r < count;) {
      const std::int64_t head = (first + r) % group_;
      const std::int64_t heads = std::min(group_ - head, count - r);
      const float* row = block_.queries[static_cast<std::size_t>((first + r) / group_)];
      std::copy_n(row + head * dim_, heads * dim_, q_ + r * dim_);
      r += heads;
    }
  }

  void score(std::int64_t num_rows) {
    for (std::int64_t lane = 0; lane < num_lanes_; lane += kStripLanes) {
      const float* strip = keys_ + lane * kVecLanes * dim_;
      const float* keys[kStripLanes];
      for (std::int64_t j = 0; j < kStripLanes; ++j) keys[j] = strip + j * kVecLanes;
      score_rows(q_, num_rows, dim_, dim_, keys, std::min(kStripLanes, num_lanes_ - lane),
                 kStripKeys, weights_ + lane * kVecLanes, stride_);
    }
    for (std::int64_t i = num_keys_; i < stride_; ++i) {
      for (std::int64_t r = 0; r < num_rows; ++r) weights_[r * stride_ + i] = kMinusInfinity;
    }
  }

  /// Turns a row of logits into exponentials; returns what their sum is divided by.
  [[nodiscard]] float exponentiate(float* row) const {
    F32x16 largest = load(row);
    for (std::int64_t i = kVecLanes; i < stride_; i += kVecLanes) {
      largest = max(largest, load(row + i));
    }
    float shift = max(largest);
    if (block_.num_zero_keys > 0) shift = std::max(shift, 0.0f);
    F32x16 totals{};
    for (std::int64_t i = 0; i < stride_; i += kVecLanes) {
      const F32x16 weight = exp(load(row + i) - shift);
      store(row + i, weight);
      totals += weight;
    }
    float total = sum(totals);
    if (block_.num_zero_keys > 0) {
      total += static_cast<float>(block_.num_zero_keys) * exp(broadcast(-shift))[0];
    }
    return 1.0f / total;
  }

  void add_weights(std::int64_t num_rows) {
    for (std::int64_t i = 0; i < stride_; i += kVecLanes) {
      F32x16 received = load(received_ + i);
      for (std::int64_t r = 0; r < num_rows; ++r) {
        received += load(weights_ + r * stride_ + i) * shares_[r];
      }
      store(received_ + i, received);
    }
  }

  const KeyBlock& block_;
  std::int64_t group_;
  std::int64_t num_keys_;
  std::int64_t dim_;
  std::int64_t num_lanes_;  // vectors of keys
  std::int64_t stride_;     // floats of a row of weights
  float* keys_;             // transposed
  float* weights_;          // [kTileRows, stride]
  float* received_;         // [stride]
  float* q_;                // [kTileRows, D]
  float shares_[kTileRows] = {};
};

}  // namespace

void block_attention(Exec& exec, const BlockAttentionArgs& args) {
  parallel_for(
      exec, static_cast<std::int64_t>(args.blocks.size()), [&](std::int64_t i, int thread_idx) {
        Block(exec, args.blocks[static_cast<std::size_t>(i)], args.group, thread_idx).run();
      });
}

}  // namespace pikv::kernels::cpu
