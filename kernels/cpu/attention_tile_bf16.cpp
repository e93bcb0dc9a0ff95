// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores and weighted sums of the tile with factors rounded to bfloat16: neighbouring channels of
// queries and keys, and neighbouring slots of weights and values, are multiplied as pairs.
#include <algorithm>

#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

/// out[r, j] (+)= sum over i of x[r, i] . panel[i, j] in pairs, for kCount rows and kVectors
/// vectors.
template <int kCount, int kVectors>
void pair_block(const std::uint32_t* x, std::int64_t x_stride, const std::uint32_t* const* panels,
                std::int64_t panel_stride, std::int64_t num_pairs, float* out,
                std::int64_t out_stride, bool adds) {
  F32x16 acc[std::size_t{kCount}][std::size_t{kVectors}] = {};
  if (adds) {
    for (int r = 0; r < kCount; ++r) {
      for (int j = 0; j < kVectors; ++j) acc[r][j] = load(out + r * out_stride + j * kVecLanes);
    }
  }
  for (std::int64_t i = 0; i < num_pairs; ++i) {
    U32x16 panel[std::size_t{kVectors}];
    for (int j = 0; j < kVectors; ++j) panel[j] = load_as<U32x16>(panels[j] + i * panel_stride);
    for (int r = 0; r < kCount; ++r) {
      const U32x16 xv = U32x16{} + x[r * x_stride + i];
      for (int j = 0; j < kVectors; ++j) acc[r][j] = dot_pairs(acc[r][j], panel[j], xv);
    }
  }
  for (int r = 0; r < kCount; ++r) {
    for (int j = 0; j < kVectors; ++j) store(out + r * out_stride + j * kVecLanes, acc[r][j]);
  }
}

/// pair_block over any number of rows and vectors; panel(j) is where vector j begins.
template <class Panel>
void pair_product(const std::uint32_t* x, std::int64_t x_stride, std::int64_t num_rows,
                  const Panel& panel, std::int64_t panel_stride, std::int64_t num_vectors,
                  std::int64_t num_pairs, float* out, std::int64_t out_stride, bool adds) {
  std::int64_t j = 0;
  const auto columns = [&]<int kVectors>() {
    const std::uint32_t* panels[std::size_t{kVectors}];
    for (int v = 0; v < kVectors; ++v) panels[v] = panel(j + v);
    std::int64_t row = 0;
    const auto rows = [&]<int kCount>() {
      pair_block<kCount, kVectors>(x + row * x_stride, x_stride, panels, panel_stride, num_pairs,
                                   out + row * out_stride + j * kVecLanes, out_stride, adds);
      row += kCount;
    };
    while (row + 6 <= num_rows) rows.template operator()<6>();
    while (row < num_rows) rows.template operator()<1>();
    j += kVectors;
  };
  constexpr int kMost = kBlockVectors<6>;
  while (j + kMost <= num_vectors) columns.template operator()<kMost>();
  while (j < num_vectors) columns.template operator()<1>();
}

std::uint32_t round_pair(float even, float odd) {
  return from_float<BFloat16>(even).bits |
         static_cast<std::uint32_t>(from_float<BFloat16>(odd).bits) << 16;
}

}  // namespace

void AttentionTile::round_query(std::int64_t row) {
  const float* q = q_ + row * head_dim_;
  std::uint32_t* pairs = q_pairs_ + row * ((head_dim_ + 1) / 2);
  for (std::int64_t d = 0; d < head_dim_; d += 2) {
    pairs[d / 2] = round_pair(q[d], d + 1 < head_dim_ ? q[d + 1] : 0.0f);
  }
}

template <class T>
void AttentionTile::score_bf16(const Operand<T>& operand) {
  const std::int64_t channels = layout_->scored_channels();
  const std::int64_t num_pairs = (channels + 1) / 2;
  const auto panel = [&](std::int64_t j) { return key_pairs_ + j * num_pairs * kLanes; };
  for (std::int64_t j = 0; j < num_lanes_; ++j) {
    const T* keys = operand.lanes[static_cast<std::size_t>(j)];
    for (std::int64_t d = 0; d < channels; d += 2) {
      const F32x16 odd = d + 1 < channels ? load(keys + (d + 1) * operand.stride) : F32x16{};
      store_as(panel(j) + d / 2 * kLanes, round_pairs(load(keys + d * operand.stride), odd));
    }
  }
  pair_product(q_pairs_, (head_dim_ + 1) / 2, num_rows_, panel, kLanes, num_lanes_, num_pairs,
               scores_, kMaxLanes * kLanes, /*adds=*/false);
}

template <class T>
void AttentionTile::accumulate_bf16(const Operand<T>& operand) {
  constexpr std::int64_t kPairs = kLanes / 2;  // of slots, in one lane group
  const std::int64_t stride = operand.stride;
  for (std::int64_t j = 0; j < num_lanes_; ++j) {
    const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
    const T* values = operand.lanes[static_cast<std::size_t>(j)];
    std::uint32_t* pairs = value_pairs_ + j * kPairs * stride;
    for (std::int64_t c = 0; c < stride; c += kVecLanes) {
      for (std::int64_t slot = 0; slot < kLanes; slot += 2) {
        // What was never written may be anything, and zero times anything is not always zero.
        const auto value = [&](std::int64_t s) {
          return s < lanes.num_slots ? load(values + s * stride + c) : F32x16{};
        };
        store_as(pairs + slot / 2 * stride + c, round_pairs(value(slot), value(slot + 1)));
      }
    }
  }
  constexpr std::int64_t kStride = kMaxLanes * kPairs;
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    const float* weights = scores_ + row * kMaxLanes * kLanes;
    for (std::int64_t i = 0; i < num_lanes_ * kPairs; ++i) {
      weight_pairs_[row * kStride + i] = round_pair(weights[2 * i], weights[2 * i + 1]);
    }
  }
  pair_product(
      weight_pairs_, kStride, num_rows_,
      [&](std::int64_t c) { return value_pairs_ + c * kVecLanes; }, stride, stride / kVecLanes,
      num_lanes_ * kPairs, o_, value_stride_, /*adds=*/true);
}

template void AttentionTile::score_bf16(const Operand<float>&);
template void AttentionTile::score_bf16(const Operand<BFloat16>&);
template void AttentionTile::score_bf16(const Operand<Half>&);
template void AttentionTile::accumulate_bf16(const Operand<float>&);
template void AttentionTile::accumulate_bf16(const Operand<BFloat16>&);
template void AttentionTile::accumulate_bf16(const Operand<Half>&);

}  // namespace pikv::kernels::cpu
