// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Packed keys with scales along channels, as decode attention reads them: unpacked to float16 in
// registers, each to the rounding of one multiply-add. Where a tile has one scale a channel,
// integers are factors as they are, and scales are multiplied into the queries. Codes are copied as
// plain keys are (decode_operands.cuh); scales by the lane that needs them, because eight lanes
// need the same bytes at once.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_codes.cuh"
#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

/// Whether all slots of a tile have the same scales. Groups divide pages, so that tiles are then
/// whole and inside one.
[[nodiscard]] inline bool tiles_have_one_scale(const PageShape& shape) {
  return shape.num_slots % kTileSlots == 0 && shape.keys.group % kTileSlots == 0;
}

/// The scales of the lane's channels from `channel` on.
__device__ __forceinline__ const std::byte* key_scales(const PageShape& shape,
                                                       const TileSource& source,
                                                       std::int32_t channel) {
  // Each stage asks: a division only where a page has several groups.
  std::int64_t row = 0;
  if (shape.keys.group < shape.num_slots) row = source.key_slot / shape.keys.group;
  return source.key_page + shape.keys.scales_bytes + (row * shape.keys.stride + channel) * 2;
}

/// A step is 16 channels: bytes of eight slots of four channels, and four scales. `kOneScale`: as
/// of IntegerKeys.
template <Element kElement, int kDim, bool kOneScale>
struct Fp8Keys {
  using Number = Half;
  static constexpr bool kIsPacked = true;
  static constexpr int kSteps = 2;  // of a stage
  static constexpr int kStages = kDim / 16 / kSteps;
  static constexpr int kUnits = 5;  // of 8 bytes a lane, of a step
  static constexpr int kLaneBytes = kSteps * kUnits * 8;

  /// What scales are multiplied by before queries are, with kOneScale: small ones would have few
  /// digits otherwise. The largest power of two with which they stay float16.
  static constexpr float kLift = !kOneScale ? 1.0f : kElement == Element::kE5m2 ? 16384.0f : 128.0f;

  static __device__ int channel(int step, int t, int i) { return 16 * step + 4 * t + i; }

  static __device__ void copy(std::uint32_t to, const PageShape& shape, const TileSource& source,
                              const Place& copier, int stage) {
    to += copier.offset() / 2;
    const std::int64_t row_bytes = shape.num_slots;
    const std::int32_t first = stage * kSteps * 16 + 4 * copier.t;
    const std::byte* from = source.key_page + source.key_slot + first * row_bytes;
    const std::byte* scales = key_scales(shape, source, first);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        copy8(to + (step * kUnits + i) * (kUnitBytes / 2), from + (16 * step + i) * row_bytes);
      }
      copy8(to + (step * kUnits + 4) * (kUnitBytes / 2), scales + 32 * step);
    }
  }

  static __device__ void multiply(std::uint32_t base, const Place& lane, std::uint32_t q, int stage,
                                  float (&scores)[kRowTiles][4]) {
    const std::uint32_t from = base + lane.offset() / 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const uint4 b = load_shared16(q + (stage * kSteps + step) * kUnitBytes);
      uint2 k[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        k[i] = load_shared8(from + (step * kUnits + i) * (kUnitBytes / 2));
      }
      const uint2 scales = load_shared8(from + (step * kUnits + 4) * (kUnitBytes / 2));
      const __half2 unit = __float2half2_rn(kOneScale ? kLift : fp8_unit<kElement>());
      const __half2 s01 = __hmul2(as_halves(scales.x), unit);
      const __half2 s23 = __hmul2(as_halves(scales.y), unit);
      const std::uint32_t b0 = kOneScale ? as_bits(__hmul2(as_halves(b.x), s01)) : b.x;
      const std::uint32_t b1 = kOneScale ? as_bits(__hmul2(as_halves(b.y), s23)) : b.y;
      const auto product = [&]<int kByte>(int r, std::uint32_t k0, std::uint32_t k1,
                                          std::uint32_t k2, std::uint32_t k3) {
        const auto scaled = [](std::uint32_t codes, __half2 scale) {
          return kOneScale ? codes : as_bits(__hmul2(as_halves(codes), scale));
        };
        cuda::multiply<Half>(scores[r], scaled(fp8_pair<kElement, kByte>(k0, k1), s01),
                             scaled(fp8_pair<kElement, kByte + 1>(k0, k1), s01),
                             scaled(fp8_pair<kElement, kByte>(k2, k3), s23),
                             scaled(fp8_pair<kElement, kByte + 1>(k2, k3), s23), b0, b1);
      };
      product.template operator()<0>(0, k[0].x, k[1].x, k[2].x, k[3].x);
      product.template operator()<2>(1, k[0].x, k[1].x, k[2].x, k[3].x);
      product.template operator()<0>(2, k[0].y, k[1].y, k[2].y, k[3].y);
      product.template operator()<2>(3, k[0].y, k[1].y, k[2].y, k[3].y);
    }
    if (kOneScale && stage == kStages - 1) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[r][i] *= fp8_unit<kElement>() / kLift;
      }
    }
  }
};

/// A step is four words of channels of a slot: a word a lane, and their scales and lows. Pairs of
/// codes that lie half a word apart are k-indices side by side. `kOneScale`: groups are whole
/// tiles, so that all lanes of a channel hold the same scale.
template <Element kElement, int kDim, bool kOneScale>
struct IntegerKeys {
  using Number = Half;
  static constexpr bool kIsPacked = true;
  static constexpr int kPerWord = ElementTraits<kElement>::kPerWord;
  static constexpr int kProducts = kPerWord / 4;  // of a step
  static constexpr int kTileSteps = kDim / (4 * kPerWord);
  // Two units of codes, and scales and lows of kPerWord channels.
  static constexpr int kScaleBytes = kPerWord * 2;
  static constexpr int kScaleUnits = kScaleBytes < 16 ? 1 : 2 * kScaleBytes / 16;
  static constexpr int kUnits = 2 + kScaleUnits;
  static constexpr int kSteps = kTileSteps > 1 && kUnits <= 4 ? 2 : 1;  // 128 bytes at most
  static constexpr int kStages = kTileSteps / kSteps;
  static constexpr int kLaneBytes = kSteps * kUnits * 16;

  static __device__ int channel(int product, int t, int i) {
    const int pair = product % kProducts * 2 + i / 2;
    return product / kProducts * 4 * kPerWord + t * kPerWord + pair + i % 2 * (kPerWord / 2);
  }

  static __device__ void copy(std::uint32_t to, const PageShape& shape, const TileSource& source,
                              const Place& copier, int stage) {
    const std::int64_t row_bytes = std::int64_t{shape.num_slots} * 4;
    const std::int32_t first = stage * kSteps * 4 + copier.t;  // row of words
    // Two lanes share a block: of each 32 bytes, one copies the front and one the back.
    const int odd = copier.g % 2;
    const std::byte* from = source.key_page + source.key_slot * 4 - odd * 16 + first * row_bytes;
    const std::uint32_t front = to + odd * kUnitBytes + Place{copier.g - odd, copier.t}.offset();
    const std::uint32_t back = to + odd * kUnitBytes + Place{copier.g - odd + 1, copier.t}.offset();
    to += copier.offset();
    const std::byte* scales = key_scales(shape, source, first * kPerWord);
    const std::byte* lows = scales + shape.keys.num_scales * 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const std::uint32_t unit = to + step * kUnits * kUnitBytes;
      const std::byte* words = from + 4 * step * row_bytes;
      copy16(front + step * kUnits * kUnitBytes, words);
      copy16(back + step * kUnits * kUnitBytes, words + 32);
      const int offset = step * 4 * kScaleBytes;
      if constexpr (kScaleBytes == 8) {
        copy8(unit + 2 * kUnitBytes, scales + offset);
        copy8(unit + 2 * kUnitBytes + 8, lows + offset);
      } else {
#pragma unroll
        for (int i = 0; i < kScaleBytes / 16; ++i) {
          copy16(unit + (2 + i) * kUnitBytes, scales + offset + 16 * i);
          copy16(unit + (2 + kScaleBytes / 16 + i) * kUnitBytes, lows + offset + 16 * i);
        }
      }
    }
  }

  /// A pair of code kPair and the one half a word on, from what lies one after the other.
  template <int kPair>
  static __device__ __half2 grid_pair(const std::uint32_t (&numbers)[kPerWord / 2]) {
    const std::uint32_t a = numbers[kPair / 2];
    const std::uint32_t b = numbers[kPair / 2 + kPerWord / 4];
    return as_halves(kPair % 2 == 0 ? lower_halves(a, b) : upper_halves(a, b));
  }

  static __device__ void load_grids(std::uint32_t from, std::uint32_t (&scales)[kPerWord / 2],
                                    std::uint32_t (&lows)[kPerWord / 2]) {
    if constexpr (kScaleBytes == 8) {
      const uint4 both = load_shared16(from);
      scales[0] = both.x;
      scales[1] = both.y;
      lows[0] = both.z;
      lows[1] = both.w;
    } else {
#pragma unroll
      for (int i = 0; i < kScaleBytes / 16; ++i) {
        const uint4 s = load_shared16(from + i * kUnitBytes);
        const uint4 l = load_shared16(from + (kScaleBytes / 16 + i) * kUnitBytes);
        scales[4 * i] = s.x;
        scales[4 * i + 1] = s.y;
        scales[4 * i + 2] = s.z;
        scales[4 * i + 3] = s.w;
        lows[4 * i] = l.x;
        lows[4 * i + 1] = l.y;
        lows[4 * i + 2] = l.z;
        lows[4 * i + 3] = l.w;
      }
    }
  }

  /// What scaled queries are multiplied by: those of small scales would have few digits otherwise.
  static constexpr float kLift = kElement == Element::kInt8 ? 1.0f : 16.0f;

  /// Queries of pair kPair of codes that come with their factor: q scale kLift, less the factor.
  template <int kPair>
  static __device__ std::uint32_t scaled(std::uint32_t q,
                                         const std::uint32_t (&scales)[kPerWord / 2]) {
    constexpr float kFactor = kLift / kIntegerFactor<kElement, kPair>;
    __half2 b = as_halves(q);
    if constexpr (kFactor != 1.0f) b = __hmul2(b, __float2half2_rn(kFactor));
    return as_bits(__hmul2(b, grid_pair<kPair>(scales)));
  }

  static __device__ void multiply(std::uint32_t base, const Place& lane, std::uint32_t q, int stage,
                                  float (&scores)[kRowTiles][4]) {
    if constexpr (kOneScale) {
      multiply_codes(base, lane, q, stage, scores);
    } else {
      multiply_keys(base, lane, q, stage, scores);
    }
  }

  /// scores += (q scale) codes + q lows: lows are keys of all rows alike, one more product. Up to
  /// the last stage scores are in units of what subnormals make of them.
  static __device__ void multiply_codes(std::uint32_t base, const Place& lane, std::uint32_t q,
                                        int stage, float (&scores)[kRowTiles][4]) {
    const std::uint32_t from = base + lane.offset();
    float low[4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const std::uint32_t unit = from + step * kUnits * kUnitBytes;
      const uint4 front = load_shared16(unit);
      const uint4 back = load_shared16(unit + kUnitBytes);
      std::uint32_t scales[kPerWord / 2];
      std::uint32_t lows[kPerWord / 2];
      load_grids(unit + 2 * kUnitBytes, scales, lows);
      const auto product = [&]<int kProduct>() {
        constexpr int kPair = 2 * kProduct;
        const uint4 b =
            load_shared16(q + ((stage * kSteps + step) * kProducts + kProduct) * kUnitBytes);
        const std::uint32_t low0 = as_bits(grid_pair<kPair>(lows));
        const std::uint32_t low1 = as_bits(grid_pair<kPair + 1>(lows));
        cuda::multiply<Half>(low, low0, low0, low1, low1, b.x, b.y);
        const std::uint32_t b0 = scaled<kPair>(b.x, scales);
        const std::uint32_t b1 = scaled<kPair + 1>(b.y, scales);
        const auto rows = [&](int r, std::uint32_t even, std::uint32_t odd) {
          cuda::multiply<Half>(scores[r], integer_pair<kElement, kPair>(even),
                               integer_pair<kElement, kPair>(odd),
                               integer_pair<kElement, kPair + 1>(even),
                               integer_pair<kElement, kPair + 1>(odd), b0, b1);
        };
        rows(0, front.x, front.y);
        rows(1, front.z, front.w);
        rows(2, back.x, back.y);
        rows(3, back.z, back.w);
      };
      product.template operator()<0>();
      if constexpr (kProducts > 1) product.template operator()<1>();
      if constexpr (kProducts > 2) product.template operator()<2>();
      if constexpr (kProducts > 3) product.template operator()<3>();
    }
    constexpr float kUnit = kSubnormal * kLift;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[r][i] += low[i] * kUnit;
        if (stage == kStages - 1) scores[r][i] *= 1.0f / kUnit;
      }
    }
  }

  static __device__ void multiply_keys(std::uint32_t base, const Place& lane, std::uint32_t q,
                                       int stage, float (&scores)[kRowTiles][4]) {
    const std::uint32_t from = base + lane.offset();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const std::uint32_t unit = from + step * kUnits * kUnitBytes;
      const uint4 front = load_shared16(unit);
      const uint4 back = load_shared16(unit + kUnitBytes);
      std::uint32_t scales[kPerWord / 2];
      std::uint32_t lows[kPerWord / 2];
      load_grids(unit + 2 * kUnitBytes, scales, lows);
      const auto product = [&]<int kProduct>() {
        const uint4 b =
            load_shared16(q + ((stage * kSteps + step) * kProducts + kProduct) * kUnitBytes);
        const auto keys = [&]<int kPair>(std::uint32_t word) {
          return as_bits(__hfma2(integer_codes<kElement, kPair>(word), grid_pair<kPair>(scales),
                                 grid_pair<kPair>(lows)));
        };
        const auto rows = [&](int r, std::uint32_t even, std::uint32_t odd) {
          constexpr int kPair = 2 * kProduct;
          cuda::multiply<Half>(scores[r], keys.template operator()<kPair>(even),
                               keys.template operator()<kPair>(odd),
                               keys.template operator()<kPair + 1>(even),
                               keys.template operator()<kPair + 1>(odd), b.x, b.y);
        };
        rows(0, front.x, front.y);
        rows(1, front.z, front.w);
        rows(2, back.x, back.y);
        rows(3, back.z, back.w);
      };
      product.template operator()<0>();
      if constexpr (kProducts > 1) product.template operator()<1>();
      if constexpr (kProducts > 2) product.template operator()<2>();
      if constexpr (kProducts > 3) product.template operator()<3>();
    }
  }
};

}  // namespace pikv::kernels::cuda
