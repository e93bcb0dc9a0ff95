// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of a few rows with sixteen rows of a bfloat16 weight, on tensor cores: the weight is
// read once, straight into the registers of the products, whatever the number of rows. Rows are in
// float32 and lose nothing (bf16_parts.cuh).
//
// A warp's operand a of m16n8k16 is the weight. Lane (g, t) = (lane / 4, lane % 4) has 16 bytes of
// rows g and g + 8, inputs 8t to 8t + 7 of a chunk of 32: the k-indices of two products, in an
// order that the rows of x, operand b, share. Warps of a tile take chunks in turn, so that they
// read what lies side by side, and their sums meet in shared memory, in the order of warps.
#pragma once

#include <cstdint>

#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kFewRowsBlock = 8;     // rows of x of a product on tensor cores
inline constexpr int kFewRowsOutputs = 16;  // rows of the weight
inline constexpr int kFewRowsWarps = 4;     // a block
inline constexpr int kFewRowsThreads = kFewRowsWarps * kWarpThreads;

/// Operand b of two products, in its three parts, the smallest first.
struct RowChunk {
  std::uint32_t parts[kMaxBf16Parts][4];
};

/// Of eight inputs of a row.
__device__ __forceinline__ RowChunk split_chunk(const float (&x)[8]) {
  constexpr std::uint32_t kUpper = 0xffff0000u;
  RowChunk chunk;
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(x[i]));
  if (largest == INFINITY) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      BFloat16 a[kMaxBf16Parts];
      BFloat16 b[kMaxBf16Parts];
      split_bf16(x[i], a);
      split_bf16(x[i + 1], b);
#pragma unroll
      for (int p = 0; p < kMaxBf16Parts; ++p) {
        chunk.parts[p][i / 2] = a[p].bits | static_cast<std::uint32_t>(b[p].bits) << 16;
      }
    }
    return chunk;
  }
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    std::uint32_t a = __float_as_uint(x[i]);
    std::uint32_t b = __float_as_uint(x[i + 1]);
#pragma unroll
    for (int p = kMaxBf16Parts - 1; p >= 0; --p) {  // differences are exact
      chunk.parts[p][i / 2] = upper_halves(a, b);
      a = __float_as_uint(__uint_as_float(a) - __uint_as_float(a & kUpper));
      b = __float_as_uint(__uint_as_float(b) - __uint_as_float(b & kUpper));
    }
  }
  return chunk;
}

/// One warp's share of a tile: chunks `warp`, `warp` + `num_warps`, ...
template <int kBlocks>  // of rows
class FewRowsShare {
 public:
  using Sums = float[kBlocks][4];

  /// `upper`, `lower`: rows g and g + 8 of the tile, of this lane.
  __device__ __forceinline__ FewRowsShare(const BFloat16* upper, const BFloat16* lower,
                                          std::int64_t num_inputs, int warp, int num_warps)
      : upper_(upper),
        lower_(lower),
        num_inputs_(static_cast<int>(num_inputs)),
        first_(warp * kChunk + static_cast<int>(threadIdx.x) % 4 * 8),
        step_(num_warps * kChunk),
        num_chunks_((num_inputs_ - warp * kChunk + step_ - 1) / step_) {}

  /// Asks for the first weights, which no launch before writes.
  __device__ __forceinline__ void start() {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) read(i, i);
  }

  /// sums += products with rows of x: x[b] is row g of block b, of this lane.
  __device__ __forceinline__ void add(const float* const (&x)[kBlocks], Sums& sums) {
#pragma unroll 1
    for (int first = 0; first < num_chunks_; first += kAhead) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= num_chunks_) break;
        add_chunk(i, first_ + (first + i) * step_, x, sums);
        read(i, first + i + kAhead);
      }
    }
  }

 private:
  static constexpr int kChunk = 32;
  static constexpr int kAhead = 8;  // chunks in registers or on their way, 64 registers

  __device__ __forceinline__ void read(int i, int chunk) {
    const int k = first_ + chunk * step_;
    if (k >= num_inputs_) return;
    bits_[i][0] = read_bits_once(upper_ + k);
    bits_[i][1] = read_bits_once(lower_ + k);
  }

  __device__ __forceinline__ void add_chunk(int i, int k, const float* const (&x)[kBlocks],
                                            Sums& sums) {
    const bool is_inside = k < num_inputs_;  // of the last chunk not all lanes are
    const uint4 zeros{0, 0, 0, 0};
    const uint4 a = is_inside ? bits_[i][0] : zeros;
    const uint4 b = is_inside ? bits_[i][1] : zeros;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      float xs[8] = {};
      if (is_inside) read_floats<8>(x[block] + k, xs);
      const RowChunk rows = split_chunk(xs);
#pragma unroll
      for (int p = 0; p < kMaxBf16Parts; ++p) {
        multiply<BFloat16>(sums[block], a.x, b.x, a.y, b.y, rows.parts[p][0], rows.parts[p][1]);
        multiply<BFloat16>(sums[block], a.z, b.z, a.w, b.w, rows.parts[p][2], rows.parts[p][3]);
      }
    }
  }

  const BFloat16* upper_;
  const BFloat16* lower_;
  int num_inputs_;
  int first_;  // this lane's first input
  int step_;
  int num_chunks_;
  uint4 bits_[kAhead][2];
};

/// Sums of the warps of a block: [warp][row][output], a float between rows, for the banks.
template <int kBlocks>
struct FewRowsSums {
  float of_warps[kFewRowsWarps][kFewRowsBlock * kBlocks][kFewRowsOutputs + 1];

  /// Each warp puts its own; then __syncthreads().
  __device__ __forceinline__ void put(int warp, const float (&sums)[kBlocks][4]) {
    const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const int row = block * kFewRowsBlock + 2 * t;
      of_warps[warp][row][g] = sums[block][0];
      of_warps[warp][row + 1][g] = sums[block][1];
      of_warps[warp][row][g + 8] = sums[block][2];
      of_warps[warp][row + 1][g + 8] = sums[block][3];
    }
  }

  /// That of warps [first, first + num_warps), which share a tile.
  [[nodiscard]] __device__ __forceinline__ float total(int first, int num_warps, int row,
                                                       int output) const {
    float total = of_warps[first][row][output];
    for (int i = 1; i < num_warps; ++i) total += of_warps[first + i][row][output];
    return total;
  }
};

/// Warps that share a tile, so that each has chunks enough to keep memory at work.
[[nodiscard]] inline int few_rows_warps_a_tile(std::int64_t num_inputs) {
  return num_inputs >= 1024 ? kFewRowsWarps : kFewRowsWarps / 2;
}

}  // namespace pikv::kernels::cuda
