// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a warp reads a tile of kTileSlots slots of pages in 16-bit numbers, and multiplies by it.
// decode_packed_keys.cuh and decode_packed_values.cuh have the same for packed pages.
//
// Lane (g, t) multiplies, of keys, slots 8g ... 8g + 7 of the channels that are its k-indices; of
// values, the channels that are its rows, of slots of the t-th block of kLanes. Sixteen bytes of
// either hold eight rows of one k-index: halves of two of them make a fragment, because rows and
// k-indices may come in any order. Row g of product r stands for slot 8g + 2r, row g + 8 for slot
// 8g + 2r + 1; so do rows of values for channels.
//
// Other lanes copy it, stage by stage: those side by side copy what lies side by side, 128 bytes at
// best. With lanes copying for themselves, each sector was a request of its own, and the
// second-level cache was busy at 60 % of the speed of memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_plan.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

/// Bytes from one unit of 16 bytes a lane to the next in shared memory.
inline constexpr std::uint32_t kUnitBytes = 16 * kWarpThreads;
/// Rows of a tile: scores of kTileSlots slots, 16 at a time.
inline constexpr int kRowTiles = kTileSlots / 16;

/// A lane's place in fragments.
struct Place {
  std::int32_t g;
  std::int32_t t;

  /// Where in a unit of shared memory its sixteen bytes lie: neither lanes that read them nor lanes
  /// that copy them, eight at a time, meet in a bank.
  [[nodiscard]] __device__ std::uint32_t offset() const {
    return static_cast<std::uint32_t>(t * 128 + (g ^ 2 * t) * 16);
  }
};

/// For which lane a lane copies keys: rows of a channel have P slots, eight a lane, and channels
/// follow each other.
__device__ __forceinline__ Place key_copier(int lane_idx, std::int32_t num_slots) {
  const int bits = num_slots % 64 == 0 ? 3 : num_slots % 32 == 0 ? 2 : 1;  // of g, side by side
  const int low = lane_idx & ((1 << bits) - 1);
  return {low | lane_idx >> (bits + 2) << bits, lane_idx >> bits & 3};
}
/// Of values: rows of a slot have channels, eight a lane.
__device__ __forceinline__ Place value_copier(int lane_idx) { return {lane_idx % 8, lane_idx / 8}; }

/// Where a lane reads a tile: the block of kLanes slots with its slots of keys, and the one with
/// its slots of values.
struct TileSource {
  const std::byte* key_page;
  const std::byte* value_page;
  std::int32_t key_slot;    // in the page, the first of eight
  std::int32_t value_slot;  // the first of the block
};

/// Multiplies columns 2t and 2t + 1 of accumulators.
template <int kProducts>
__device__ __forceinline__ void scale_columns(float (&sums)[kProducts][4], float first,
                                              float second) {
#pragma unroll
  for (int i = 0; i < kProducts; ++i) {
    sums[i][0] *= first;
    sums[i][1] *= second;
    sums[i][2] *= first;
    sums[i][3] *= second;
  }
}

template <class T, int kDim>
struct PlainKeys {
  using Number = T;
  static constexpr bool kIsPacked = false;
  static constexpr int kStages = kDim < 256 ? 2 : 4;
  static constexpr int kSteps = kDim / 16 / kStages;  // products of a stage
  static constexpr int kLaneBytes = kSteps * 64;

  /// The channel that k-index i of four of lane t stands for: lanes side by side in memory.
  static __device__ int channel(int step, int t, int i) { return 16 * step + 4 * i + t; }

  static __device__ void copy(std::uint32_t to, const PageShape& shape, const TileSource& source,
                              const Place& copier, int stage) {
    const std::int64_t row_bytes = std::int64_t{shape.num_slots} * 2;
    const std::byte* from = source.key_page + source.key_slot * 2 +
                            (std::int64_t{stage} * kSteps * 16 + copier.t) * row_bytes;
    to += copier.offset();
#pragma unroll
    for (int i = 0; i < 4 * kSteps; ++i) copy16(to + i * kUnitBytes, from + 4 * i * row_bytes);
  }

  /// scores += keys q; `q` are this lane's fragments, a step after the other.
  static __device__ void multiply(std::uint32_t base, const Place& lane, std::uint32_t q, int stage,
                                  float (&scores)[kRowTiles][4]) {
    const std::uint32_t from = base + lane.offset();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint4 b = load_shared16(q + (stage * kSteps + step) * kUnitBytes);
      uint4 k[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) k[i] = load_shared16(from + (4 * step + i) * kUnitBytes);
      const auto product = [&](int r, std::uint32_t k0, std::uint32_t k1, std::uint32_t k2,
                               std::uint32_t k3) {
        const std::uint32_t a0 = lower_halves(k0, k1);
        const std::uint32_t a1 = upper_halves(k0, k1);
        const std::uint32_t a2 = lower_halves(k2, k3);
        const std::uint32_t a3 = upper_halves(k2, k3);
        cuda::multiply<T>(scores[r], a0, a1, a2, a3, b.x, b.y);
        cuda::multiply<T>(scores[r], a0, a1, a2, a3, b.z, b.w);
      };
      product(0, k[0].x, k[1].x, k[2].x, k[3].x);
      product(1, k[0].y, k[1].y, k[2].y, k[3].y);
      product(2, k[0].z, k[1].z, k[2].z, k[3].z);
      product(3, k[0].w, k[1].w, k[2].w, k[3].w);
    }
  }
};

template <class T, int kDim>
struct PlainValues {
  static constexpr int kStages = kDim < 256 ? 2 : 4;
  static constexpr int kSteps = kRowTiles / kStages;  // of 16 slots, of a stage
  static constexpr int kChunks = kDim / 64;           // of the channels of one unit of all lanes
  static constexpr int kLaneBytes = kSteps * 4 * kChunks * 16;
  /// What sums are multiplied by in the end.
  static __device__ constexpr float unit() { return 1.0f; }

  /// The channel of row g of product i; that of row g + 8 is the next.
  static __device__ int channel(int i, int g) { return i / 4 * 64 + 8 * g + i % 4 * 2; }

  static __device__ void copy(std::uint32_t to, const PageShape& shape, const TileSource& source,
                              const Place& copier, int stage) {
    const std::int64_t row_bytes = std::int64_t{shape.values.stride} * 2;
    const std::byte* from = source.value_page + shape.values.codes_bytes + 16 * copier.g +
                            (source.value_slot + 2 * kSteps * stage) * row_bytes;
    to += copier.offset();
#pragma unroll
    for (int i = 0; i < 4 * kSteps; ++i) {
      const std::byte* row = from + (i / 4 * 2 + 8 * (i & 1) + (i >> 1 & 1)) * row_bytes;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        copy16(to + (i * kChunks + c) * kUnitBytes, row + 128 * c);
      }
    }
  }

  static __device__ void copy_scales(std::uint32_t /*to*/, const PageShape& /*shape*/,
                                     const TileSource& /*source*/, const Place& /*copier*/) {}

  /// Weights of a tile as fragments, and the sums of the unit.
  struct Sums {
    float o[kDim / 16][4] = {};
    std::uint32_t weights[kRowTiles][4];

    __device__ void rescale(float first, float second) { scale_columns(o, first, second); }
    __device__ void prepare(std::uint32_t /*base*/, const Place& /*lane*/,
                            const float (&p)[kRowTiles][4]) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        const SplitPair even = split<T>(p[r][0], p[r][1]);
        const SplitPair odd = split<T>(p[r][2], p[r][3]);
        weights[r][0] = transposed(even.high);
        weights[r][1] = transposed(odd.high);
        weights[r][2] = transposed(even.low);
        weights[r][3] = transposed(odd.low);
      }
    }
    __device__ void multiply(std::uint32_t base, const Place& lane, int stage) {
      const std::uint32_t from = base + lane.offset();
#pragma unroll
      for (int j = 0; j < kSteps * kChunks; ++j) {
        const int c = j % kChunks;
        const std::uint32_t(&b)[4] = weights[stage * kSteps + j / kChunks];
        const std::uint32_t unit = from + j / kChunks * 4 * kChunks * kUnitBytes;
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) v[i] = load_shared16(unit + (i * kChunks + c) * kUnitBytes);
        const auto product = [&](int r, std::uint32_t v0, std::uint32_t v1, std::uint32_t v2,
                                 std::uint32_t v3) {
          const std::uint32_t a0 = lower_halves(v0, v1);
          const std::uint32_t a1 = upper_halves(v0, v1);
          const std::uint32_t a2 = lower_halves(v2, v3);
          const std::uint32_t a3 = upper_halves(v2, v3);
          cuda::multiply<T>(o[4 * c + r], a0, a1, a2, a3, b[0], b[1]);
          cuda::multiply<T>(o[4 * c + r], a0, a1, a2, a3, b[2], b[3]);
        };
        product(0, v[0].x, v[1].x, v[2].x, v[3].x);
        product(1, v[0].y, v[1].y, v[2].y, v[3].y);
        product(2, v[0].z, v[1].z, v[2].z, v[3].z);
        product(3, v[0].w, v[1].w, v[2].w, v[3].w);
      }
    }
    /// What is to be added to all channels of product i: nothing.
    __device__ void finish() {}
    __device__ float2 shift(int /*i*/) const { return {0.0f, 0.0f}; }
  };
};

}  // namespace pikv::kernels::cuda
