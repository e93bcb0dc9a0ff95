// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of a few rows with sixteen rows of a bfloat16 weight, on tensor cores: the weight is
// read once, whatever the number of rows. Rows are in float32 and lose nothing (bf16_parts.cuh).
//
// A warp's operand a of m16n8k16 is the weight. Lane (g, t) = (lane / 4, lane % 4) has 16 bytes of
// rows g and g + 8, inputs 8t to 8t + 7 of a chunk of 32: the k-indices of two products, in an
// order that the rows of x, operand b, share. Warps of a block take chunks of a tile in turn, so
// that they read what lies side by side, and their sums meet in shared memory, in the order of
// warps.
//
// Everything is asked for kAhead chunks early, into shared memory, where each thread finds what it
// asked for itself, so that nobody waits for anybody. (Registers would do for the weights, but a
// warp has six counters to wait for reads by, and to wait for one read is to wait for all that
// share its counter.)
#pragma once

#include <cstdint>

#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kFewRowsBlock = 8;     // rows of x of a product on tensor cores
inline constexpr int kFewRowsOutputs = 16;  // rows of the weight: a tile
inline constexpr int kFewRowsInputs = 8;    // of a lane at once, 16 bytes: K is a multiple of it

/// Operand b of two products, in its three parts, the smallest first.
struct RowChunk {
  std::uint32_t parts[kMaxBf16Parts][4];
};

/// Of the bits of eight inputs of a row.
__device__ __forceinline__ RowChunk split_chunk(const std::uint32_t (&x)[8]) {
  constexpr std::uint32_t kUpper = 0xffff0000u;
  RowChunk chunk;
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(__uint_as_float(x[i])));
  if (largest == INFINITY) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      BFloat16 a[kMaxBf16Parts];
      BFloat16 b[kMaxBf16Parts];
      split_bf16(__uint_as_float(x[i]), a);
      split_bf16(__uint_as_float(x[i + 1]), b);
#pragma unroll
      for (int p = 0; p < kMaxBf16Parts; ++p) {
        chunk.parts[p][i / 2] = a[p].bits | static_cast<std::uint32_t>(b[p].bits) << 16;
      }
    }
    return chunk;
  }
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    std::uint32_t a = x[i];
    std::uint32_t b = x[i + 1];
#pragma unroll
    for (int p = kMaxBf16Parts - 1; p >= 0; --p) {  // differences are exact
      chunk.parts[p][i / 2] = upper_halves(a, b);
      a = __float_as_uint(__uint_as_float(a) - __uint_as_float(a & kUpper));
      b = __float_as_uint(__uint_as_float(b) - __uint_as_float(b & kUpper));
    }
  }
  return chunk;
}

/// Row g of each block of rows of x, in float32, which the products cut into parts.
template <int kBlocks_>
struct FloatRows {
  static constexpr int kBlocks = kBlocks_;
  static constexpr int kPieces = 2;  // of 16 bytes, of a chunk of a row and lane

  const float* x[kBlocks];  // null: zeros

  /// By way of the first-level cache: all tiles of a multiprocessor read the same few rows, and
  /// thousands of warps that ask the second level for the same lines wait for each other.
  template <class Place>
  __device__ __forceinline__ void copy(int block, int k, const Place& place) const {
    copy16_of_many(place(0), x[block] + k, x[block] != nullptr);
    copy16_of_many(place(1), x[block] + k + 4, x[block] != nullptr);
  }
  template <class Piece>
  [[nodiscard]] static __device__ __forceinline__ RowChunk chunk(const Piece& piece) {
    const uint4 a = piece(0);
    const uint4 b = piece(1);
    return split_chunk({a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w});
  }
};

/// The same of rows that lie there in parts.
template <int kBlocks_>
struct SplitRows {
  static constexpr int kBlocks = kBlocks_;
  static constexpr int kPieces = kMaxBf16Parts;

  const BFloat16* x[kBlocks];  // of the first part; null: zeros
  std::int64_t part_size;      // from part to part

  template <class Place>
  __device__ __forceinline__ void copy(int block, int k, const Place& place) const {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      copy16_of_many(place(p), x[block] + p * part_size + k, x[block] != nullptr);
    }
  }
  template <class Piece>
  [[nodiscard]] static __device__ __forceinline__ RowChunk chunk(const Piece& piece) {
    RowChunk chunk;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const uint4 part = piece(p);
      chunk.parts[p][0] = part.x;
      chunk.parts[p][1] = part.y;
      chunk.parts[p][2] = part.z;
      chunk.parts[p][3] = part.w;
    }
    return chunk;
  }
};

/// Where a lane reads: rows g and g + 8 of a tile of the weight, and rows of x.
template <class Rows>
struct FewRowsSource {
  const BFloat16* upper;
  const BFloat16* lower;
  Rows rows;
};

/// Tiles of a block of kWarps warps, one after another.
template <class Rows, int kWarps, int kAhead>
class FewRowsStream {
 public:
  static constexpr int kThreads = kWarps * kWarpThreads;
  static constexpr int kBlocks = Rows::kBlocks;
  using Source = FewRowsSource<Rows>;
  using Sums = float[kBlocks][4];

  struct Shared {
    // Of the weight, then of each block of rows.
    uint4 pieces[kAhead][2 + Rows::kPieces * kBlocks][kThreads];
    // A float between rows, for the banks; two tiles, so that one barrier a tile is enough.
    float sums[2][kWarps][kFewRowsBlock * kBlocks][kFewRowsOutputs + 1];
  };

  __device__ __forceinline__ FewRowsStream(Shared& shared, std::int64_t num_inputs)
      : shared_(shared), num_inputs_(static_cast<int>(num_inputs)) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    first_ = warp * kChunk + static_cast<int>(threadIdx.x) % 4 * kFewRowsInputs;
    num_chunks_ = (num_inputs_ - warp * kChunk + kStep - 1) / kStep;
    const int most = (num_inputs_ + kStep - 1) / kStep;
    num_rounds_ = (most + kAhead - 1) / kAhead;
  }

  /// Asks for the first weights of the first tile, which no launch before writes.
  __device__ __forceinline__ void ask_for_weights(const Source& source) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) copy_weights(i, source, i);
  }
  /// And then for the rows that go with them.
  __device__ __forceinline__ void ask_for_rows(const Source& source) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      copy_rows(i, source, i);
      commit_copies();
    }
  }

  /// sums += products of a tile whose first chunks are on their way; asks for those of the next.
  __device__ __forceinline__ void run(const Source& tile, bool has_next, const Source& next,
                                      Sums& sums) {
#pragma unroll 1
    for (int round = 0; round < num_rounds_; ++round) {
      const bool is_last = round + 1 == num_rounds_;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        wait_for_copies<kAhead - 1>();
        add(i, round * kAhead + i, sums);
        if (!is_last) {
          copy_weights(i, tile, (round + 1) * kAhead + i);
          copy_rows(i, tile, (round + 1) * kAhead + i);
        } else if (has_next) {
          copy_weights(i, next, i);
          copy_rows(i, next, i);
        }
        commit_copies();
      }
    }
  }

  /// Puts this warp's sums where all threads find them behind the barrier; `tile` counts up.
  __device__ __forceinline__ void share(int tile, const Sums& sums) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
    const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    auto& of_warp = shared_.sums[tile % 2][warp];
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const int row = block * kFewRowsBlock + 2 * t;
      of_warp[row][g] = sums[block][0];
      of_warp[row + 1][g] = sums[block][1];
      of_warp[row][g + 8] = sums[block][2];
      of_warp[row + 1][g + 8] = sums[block][3];
    }
    __syncthreads();
  }
  [[nodiscard]] __device__ __forceinline__ float total(int tile, int row, int output) const {
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) total += shared_.sums[tile % 2][warp][row][output];
    return total;
  }

 private:
  static constexpr int kChunk = 4 * kFewRowsInputs;
  static constexpr int kStep = kWarps * kChunk;

  __device__ __forceinline__ std::uint32_t place(int i, int piece) const {
    return shared_address(&shared_.pieces[i][piece][threadIdx.x]);
  }
  __device__ __forceinline__ void copy_weights(int i, const Source& source, int chunk) {
    const int k = first_ + chunk * kStep;
    if (k >= num_inputs_) return;
    copy16(place(i, 0), reinterpret_cast<const std::byte*>(source.upper + k));
    copy16(place(i, 1), reinterpret_cast<const std::byte*>(source.lower + k));
  }
  __device__ __forceinline__ void copy_rows(int i, const Source& source, int chunk) {
    const int k = first_ + chunk * kStep;
    if (k >= num_inputs_) return;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      source.rows.copy(block, k, [&](int j) { return place(i, 2 + block * Rows::kPieces + j); });
    }
  }

  __device__ __forceinline__ void add(int i, int chunk, Sums& sums) {
    if (chunk >= num_chunks_) return;
    const bool is_inside = first_ + chunk * kStep < num_inputs_;  // not all lanes of the last one
    const auto piece = [&](int at) {
      return is_inside ? load_shared16(place(i, at)) : uint4{0, 0, 0, 0};
    };
    const uint4 a = piece(0);
    const uint4 b = piece(1);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const RowChunk rows =
          Rows::chunk([&](int j) { return piece(2 + block * Rows::kPieces + j); });
#pragma unroll
      for (int p = 0; p < kMaxBf16Parts; ++p) {
        multiply<BFloat16>(sums[block], a.x, b.x, a.y, b.y, rows.parts[p][0], rows.parts[p][1]);
        multiply<BFloat16>(sums[block], a.z, b.z, a.w, b.w, rows.parts[p][2], rows.parts[p][3]);
      }
    }
  }

  Shared& shared_;
  int num_inputs_;
  int first_;       // this lane's first input
  int num_chunks_;  // of this warp
  int num_rounds_;  // of the warp with most
};

}  // namespace pikv::kernels::cuda
