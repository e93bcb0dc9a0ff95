// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a warpgroup of grouped_wgmma.cu writes its sums: of gate and up silu(gate) * up as parts, in
// the order of pairs; of down outputs, each pair's in its own place, rounded if products are.
// Weights come dealt (boxes.hpp), so that of every 32 outputs a lane has eight neighbours.
#pragma once

#include <cstdint>

#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/grouped_shared.cuh"

namespace pikv::kernels::cuda {

/// Of a thread: its two rows, g and g + 8 of its warp's 16, by 256 columns (wgmma.cuh).
using ProductSums = float[kSlabWeights / 2];

/// silu with an error of 2^-16 of it at most, for what is rounded to bfloat16 next.
[[nodiscard]] __device__ __forceinline__ float quick_silu(float x) {
  constexpr float kLog2E = 1.44269504088896f;
  return x * reciprocal(1.0f + power_of_two(-kLog2E * x));
}

template <bool kIsGateUp, int kParts>
class ResultRows {
  static constexpr int kEight = 8;
  static constexpr int kBoxes = kItemOutputs<kIsGateUp> / kDealtRows;

 public:
  /// For rows from `first_row` of the item on: asks for what it needs of them, long before it does.
  __device__ ResultRows(const GroupedProduct& product, const ProductItem& item, int first_row)
      : product_(product), first_output_(item.first_output) {
    const ExpertMatrices& expert = product.table[item.tile.expert];
    bias_ = kIsGateUp ? expert.gate_bias : expert.down_bias;
    up_bias_ = kIsGateUp ? expert.up_bias : nullptr;
    const int warp = static_cast<int>(threadIdx.x) % kGroupThreads / kWarpThreads;
    const std::int32_t slot =
        item.tile.begin + first_row + warp * 16 + static_cast<int>(threadIdx.x) % kWarpThreads / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      is_row_[i] = slot + 8 * i < item.tile.end;
      places_[i] = slot + 8 * i;
      if (!kIsGateUp && is_row_[i]) places_[i] = product.order.pairs[slot + 8 * i];
    }
  }

  __device__ void write(const ProductSums& sums) const {
    if (!__any_sync(kWholeWarp, is_row_[0])) return;
    const int num_boxes =
        min(static_cast<int>(product_.num_outputs - first_output_) / kDealtRows, kBoxes);
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      if (box >= num_boxes) break;
      const std::int64_t n = first_output_ + box * kDealtRows + threadIdx.x % 4 * kEight;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float results[kEight];
        take(sums, box, i, results);
        add_bias(bias_, n, results);
        if constexpr (kIsGateUp) {
          float ups[kEight];
          take(sums, kBoxes + box, i, ups);
          add_bias(up_bias_, n, ups);
#pragma unroll
          for (int k = 0; k < kEight; ++k) results[k] = activated(results[k]) * ups[k];
        }
        if (is_row_[i]) store(std::int64_t{places_[i]} * product_.num_outputs + n, results);
      }
    }
  }

 private:
  static __device__ __forceinline__ void take(const ProductSums& sums, int box, int i,
                                              float (&eight)[kEight]) {
#pragma unroll
    for (int k = 0; k < kEight; ++k) eight[k] = sums[16 * box + k % 4 * 4 + 2 * i + k / 4];
  }

  static __device__ __forceinline__ void add_bias(const float* bias, std::int64_t n,
                                                  float (&eight)[kEight]) {
    if (bias == nullptr) return;
#pragma unroll
    for (int k = 0; k < kEight; ++k) eight[k] += bias[n + k];
  }

  static __device__ __forceinline__ float activated(float x) {
    return kParts == 1 ? quick_silu(x) : silu(x);
  }

  __device__ __forceinline__ void store(std::int64_t at, const float (&results)[kEight]) const {
    if constexpr (!kIsGateUp && kParts > 1) {
      auto* to = reinterpret_cast<float4*>(product_.out + at);
      to[0] = {results[0], results[1], results[2], results[3]};
      to[1] = {results[4], results[5], results[6], results[7]};
    } else if constexpr (kParts == 1) {
      BFloat16* to = (kIsGateUp ? product_.inner[0] : product_.rounded_out) + at;
      *reinterpret_cast<uint4*>(to) = {
          pack<BFloat16>(results[0], results[1]), pack<BFloat16>(results[2], results[3]),
          pack<BFloat16>(results[4], results[5]), pack<BFloat16>(results[6], results[7])};
    } else {
      BFloat16 parts[kEight][kParts];
#pragma unroll
      for (int k = 0; k < kEight; ++k) split_bf16(results[k], parts[k]);
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        const auto pair = [&](int k) {
          return parts[k][p].bits | static_cast<std::uint32_t>(parts[k + 1][p].bits) << 16;
        };
        *reinterpret_cast<uint4*>(product_.inner[p] + at) = {pair(0), pair(2), pair(4), pair(6)};
      }
    }
  }

  const GroupedProduct& product_;
  std::int32_t first_output_;
  const float* bias_;     // of gate or of down
  const float* up_bias_;  // null for down
  bool is_row_[2];
  std::int32_t places_[2];  // of the rows, among inner or outputs
};

}  // namespace pikv::kernels::cuda
