// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a warpgroup of grouped_wgmma.cu writes its sums: of gate and up silu(gate) * up as parts, in
// the order of pairs; of down outputs, each pair's in its own place, rounded if products are. Where
// numbers are rounded, the four lanes of a row exchange them so that each writes 16 bytes in a row,
// and all four 64.
#pragma once

#include <cstdint>

#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/grouped_shared.cuh"

namespace pikv::kernels::cuda {

/// Of a thread: its two rows, g and g + 8 of its warp's 16, by 256 columns (wgmma.cuh).
using ProductSums = float[kSlabWeights / 2];

/// Lane t of four has words[b] of b = 0 to 3; afterwards it has words[t] of lanes 0 to 3.
__device__ __forceinline__ void transpose_among_four(std::uint32_t (&words)[4]) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (threadIdx.x & step) != 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      std::uint32_t& low = words[step == 1 ? 2 * i : i];
      std::uint32_t& high = words[step == 1 ? 2 * i + 1 : i + 2];
      const std::uint32_t got = __shfl_xor_sync(kWholeWarp, upper ? low : high, step);
      (upper ? low : high) = got;
    }
  }
}

template <bool kIsGateUp, int kParts>
class ResultRows {
  static constexpr int kQuadColumns = 32;  // four blocks of eight, one a lane of four
  static constexpr int kQuads = kItemOutputs<kIsGateUp> / kQuadColumns;
  static_assert(kBoxRows % kQuadColumns == 0, "quads lie inside num_outputs or outside");

 public:
  /// Asks for the pairs that the rows from `first_row` of the item on are of.
  __device__ ResultRows(const GroupedProduct& product, const ProductItem& item, int first_row)
      : product_(product),
        expert_(product.table[item.tile.expert]),
        first_output_(item.first_output) {
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
    const int num_quads =
        min(static_cast<int>(product_.num_outputs - first_output_) / kQuadColumns, kQuads);
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
      if (quad >= num_quads) break;
      write_quad(sums, quad);
    }
  }

 private:
  __device__ __forceinline__ void write_quad(const ProductSums& sums, int quad) const {
    float2 results[2][4];
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const int block = 4 * quad + b;
      const std::int64_t n = first_output_ + block * 8 + threadIdx.x % 4 * 2;
      const float2 bias = bias_at(kIsGateUp ? expert_.gate_bias : expert_.down_bias, n);
      const float2 up_bias = kIsGateUp ? bias_at(expert_.up_bias, n) : float2{0.0f, 0.0f};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float* sum = sums + 4 * block + 2 * i;
        results[i][b] = {sum[0] + bias.x, sum[1] + bias.y};
        if constexpr (kIsGateUp) {
          const float* up = sum + kSlabWeights / 4;
          results[i][b].x = activated(results[i][b].x) * (up[0] + up_bias.x);
          results[i][b].y = activated(results[i][b].y) * (up[1] + up_bias.y);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t at =
          std::int64_t{places_[i]} * product_.num_outputs + first_output_ + quad * kQuadColumns;
      if constexpr (!kIsGateUp && kParts > 1) {
        store_floats(product_.out + at, results[i], is_row_[i]);
      } else {
        store_parts(at, results[i], is_row_[i]);
      }
    }
  }

  static __device__ __forceinline__ void store_floats(float* to, const float2 (&results)[4],
                                                      bool is_row) {
    if (!is_row) return;
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      *reinterpret_cast<float2*>(to + b * 8 + threadIdx.x % 4 * 2) = results[b];
    }
  }

  __device__ __forceinline__ void store_parts(std::int64_t at, const float2 (&results)[4],
                                              bool is_row) const {
    std::uint32_t words[kParts][4];
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      if constexpr (kParts == 1) {
        words[0][b] = pack<BFloat16>(results[b].x, results[b].y);
      } else {
        BFloat16 even[kParts];
        BFloat16 odd[kParts];
        split_bf16(results[b].x, even);
        split_bf16(results[b].y, odd);
#pragma unroll
        for (int p = 0; p < kParts; ++p) {
          words[p][b] = even[p].bits | static_cast<std::uint32_t>(odd[p].bits) << 16;
        }
      }
    }
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      transpose_among_four(words[p]);
      if (!is_row) continue;
      BFloat16* to = (kIsGateUp ? product_.inner[p] : product_.rounded_out) + at;
      *reinterpret_cast<uint4*>(to + threadIdx.x % 4 * 8) = {words[p][0], words[p][1], words[p][2],
                                                             words[p][3]};
    }
  }

  static __device__ __forceinline__ float activated(float x) {
    return kParts == 1 ? quick_silu(x) : silu(x);
  }

  const GroupedProduct& product_;
  const ExpertMatrices& expert_;
  std::int32_t first_output_;
  bool is_row_[2];
  std::int32_t places_[2];  // of the rows, among inner or outputs
};

}  // namespace pikv::kernels::cuda
