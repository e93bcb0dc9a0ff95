// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Packed values with scales along slots, as decode attention reads them: scales are multiplied into
// the weights, which are rounded to float16 afterwards, and codes are factors as they are. Integers
// are so as subnormal float16, which tensor cores take for what they are. Lows become a sum a
// column, added to all channels of the group in the end.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_codes.cuh"
#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

// Groups are 64 channels at least: so many rows of scales.
template <int kDim>
inline constexpr int kMaxGroups = kDim / 64;

/// Weights times scales are multiplied by the largest power of two with which they stay float16 for
/// values that are: the smaller ones would have few digits, or none, otherwise.
template <Element kElement>
inline constexpr float kWeightFactor = kElement == Element::kE5m2   ? 16384.0f
                                       : kElement == Element::kE4m3 ? 128.0f
                                       : kElement == Element::kInt8 ? 64.0f
                                       : kElement == Element::kInt4 ? 4.0f
                                                                    : 1.0f;

/// Which row of scales 64 channels have: chunk * 64 / group without a division, because it is done
/// each tile, and groups are 64 channels at least.
__device__ __forceinline__ int scale_row(const PageShape& shape, int chunk) {
  int row = 0;
  for (int i = 1; i <= chunk; ++i) row += shape.values.group <= chunk * 64 / i;
  return row;
}

/// Copies scales, and lows, of the eight slots that are the lane's rows of scores.
template <int kDim, bool kHasLow>
__device__ __forceinline__ void copy_value_scales(std::uint32_t to, const PageShape& shape,
                                                  const std::byte* page, std::int32_t slot) {
#pragma unroll
  for (int c = 0; c < kMaxGroups<kDim>; ++c) {
    const std::byte* from = page + shape.values.scales_bytes +
                            (std::int64_t{scale_row(shape, c)} * shape.num_slots + slot) * 2;
    copy16(to + c * kUnitBytes, from);
    if constexpr (kHasLow) {
      copy16(to + (kMaxGroups<kDim> + c) * kUnitBytes, from + shape.values.num_scales * 2);
    }
  }
}

/// Weights as fragments, sums, and what both kinds of packed values do alike.
template <int kDim, bool kHasLow>
struct PackedSums {
  static constexpr int kGroups = kMaxGroups<kDim>;
  float o[kDim / 16][4] = {};
  float lows[kGroups][2] = {};  // of the lane's rows
  std::uint32_t weights[kGroups][kRowTiles][2];

  __device__ void rescale(float first, float second) {
    scale_columns(o, first, second);
#pragma unroll
    for (int c = 0; c < kGroups; ++c) {
      lows[c][0] *= first;
      lows[c][1] *= second;
    }
  }
  /// `inverse(r, odd)`: of the factor that codes of slot 2r, or 2r + 1, come with.
  template <class Inverse>
  __device__ void weigh(std::uint32_t from, const float (&p)[kRowTiles][4],
                        const Inverse& inverse) {
#pragma unroll
    for (int c = 0; c < kGroups; ++c) {
      const uint4 scales = load_shared16(from + c * kUnitBytes);
      const std::uint32_t scale_pairs[4] = {scales.x, scales.y, scales.z, scales.w};
      uint4 low = {};
      if constexpr (kHasLow) low = load_shared16(from + (kGroups + c) * kUnitBytes);
      const std::uint32_t low_pairs[4] = {low.x, low.y, low.z, low.w};
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        float2 scale = unpack<Half>(scale_pairs[r]);
        scale.x *= inverse(r, 0);
        scale.y *= inverse(r, 1);
        weights[c][r][0] = transposed(pack<Half>(p[r][0] * scale.x, p[r][1] * scale.x));
        weights[c][r][1] = transposed(pack<Half>(p[r][2] * scale.y, p[r][3] * scale.y));
        if constexpr (kHasLow) {
          const float2 l = unpack<Half>(low_pairs[r]);
          lows[c][0] += p[r][0] * l.x + p[r][2] * l.y;
          lows[c][1] += p[r][1] * l.x + p[r][3] * l.y;
        }
      }
    }
  }
  __device__ void finish() {
    if constexpr (kHasLow) {
#pragma unroll
      for (int i = 0; i < 2 * kGroups; ++i) {
        for (int step = 4; step < kWarpThreads; step *= 2) {
          lows[i / 2][i % 2] += __shfl_xor_sync(kWholeWarp, lows[i / 2][i % 2], step);
        }
      }
    }
  }
  /// To be added to channels of product i.
  __device__ float2 shift(int i) const { return {lows[i / 4][0], lows[i / 4][1]}; }
};

template <Element kElement, int kDim>
struct Fp8Values {
  static constexpr int kStages = 4;  // one for each step of 16 slots
  static constexpr int kChunks = kDim / 64;
  static constexpr int kCodeBytes = 4 * kChunks * 8;
  static constexpr int kLaneBytes = kCodeBytes + kMaxGroups<kDim> * 16;
  static __device__ constexpr float unit() {
    return fp8_unit<kElement>() / kWeightFactor<kElement>;
  }

  static __device__ int channel(int i, int g) { return i / 4 * 64 + 8 * g + i % 4 * 2; }

  static __device__ void copy_scales(std::uint32_t to, const PageShape& shape,
                                     const TileSource& source, const Place& copier) {
    copy_value_scales<kDim, false>(to + kCodeBytes * kWarpThreads + copier.offset(), shape,
                                   source.key_page, source.key_slot);
  }
  static __device__ void copy(std::uint32_t to, const PageShape& shape, const TileSource& source,
                              const Place& copier, int stage) {
    to += copier.offset() / 2;
    const std::int64_t row_bytes = shape.values.stride;
    const std::byte* from = source.value_page + shape.values.codes_bytes + 8 * copier.g +
                            (source.value_slot + 2 * stage) * row_bytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::byte* row = from + (8 * (i & 1) + (i >> 1)) * row_bytes;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        copy8(to + (i * kChunks + c) * (kUnitBytes / 2), row + 64 * c);
      }
    }
  }

  struct Sums : PackedSums<kDim, false> {
    __device__ void prepare(std::uint32_t base, const Place& lane, const float (&p)[kRowTiles][4]) {
      this->weigh(base + kCodeBytes * kWarpThreads + lane.offset(), p,
                  [](int, int) { return kWeightFactor<kElement>; });
    }
    __device__ void multiply(std::uint32_t base, const Place& lane, int stage) {
      const std::uint32_t from = base + lane.offset() / 2;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const std::uint32_t(&b)[2] = this->weights[c][stage];
        uint2 v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          v[i] = load_shared8(from + (i * kChunks + c) * (kUnitBytes / 2));
        }
        const auto product = [&]<int kByte>(int r, std::uint32_t v0, std::uint32_t v1,
                                            std::uint32_t v2, std::uint32_t v3) {
          cuda::multiply<Half>(this->o[4 * c + r], fp8_pair<kElement, kByte>(v0, v1),
                               fp8_pair<kElement, kByte + 1>(v0, v1),
                               fp8_pair<kElement, kByte>(v2, v3),
                               fp8_pair<kElement, kByte + 1>(v2, v3), b[0], b[1]);
        };
        product.template operator()<0>(0, v[0].x, v[1].x, v[2].x, v[3].x);
        product.template operator()<2>(1, v[0].x, v[1].x, v[2].x, v[3].x);
        product.template operator()<0>(2, v[0].y, v[1].y, v[2].y, v[3].y);
        product.template operator()<2>(3, v[0].y, v[1].y, v[2].y, v[3].y);
      }
    }
  };
};

/// Words of slots of a channel: a unit of a lane is four channels.
template <Element kElement, int kDim>
struct IntegerValues {
  static constexpr int kPerWord = ElementTraits<kElement>::kPerWord;
  static constexpr int kBlockWords = kLanes / kPerWord;     // rows of words of a block
  static constexpr int kParts = kBlockWords == 4 ? 2 : 1;   // of these rows
  static constexpr int kStageWords = kBlockWords / kParts;  // 2, or 1 of int2
  static constexpr int kStageSteps = kRowTiles / kParts;    // of 16 slots of the tile
  static constexpr int kChunks = 4 / kStageWords < kDim / 32 ? 4 / kStageWords : kDim / 32;
  static constexpr int kStages = kParts * (kDim / 32 / kChunks);  // of kChunks x 32 channels
  static constexpr int kCodeBytes = kStageWords * kChunks * 16;
  static constexpr int kLaneBytes = kCodeBytes + 2 * kMaxGroups<kDim> * 16;
  static __device__ constexpr float unit() { return 1.0f / (kSubnormal * kWeightFactor<kElement>); }

  static __device__ int channel(int i, int g) { return i / 2 * 32 + 4 * g + i % 2 * 2; }

  static __device__ void copy_scales(std::uint32_t to, const PageShape& shape,
                                     const TileSource& source, const Place& copier) {
    copy_value_scales<kDim, true>(to + kCodeBytes * kWarpThreads + copier.offset(), shape,
                                  source.key_page, source.key_slot);
  }
  static __device__ void copy(std::uint32_t to, const PageShape& shape, const TileSource& source,
                              const Place& copier, int stage) {
    to += copier.offset();
    const std::int64_t row_bytes = std::int64_t{shape.values.stride} * 4;
    const std::byte* from = source.value_page + shape.values.codes_bytes + 16 * copier.g +
                            stage / kParts * kChunks * 128 +
                            (source.value_slot / kPerWord + stage % kParts) * row_bytes;
#pragma unroll
    for (int i = 0; i < kStageWords; ++i) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        copy16(to + (i * kChunks + c) * kUnitBytes, from + i * kParts * row_bytes + 128 * c);
      }
    }
  }

  /// The pair of slots f and f + 8 of the block, f = 2 kStep + kOdd, in kStep of the stage: as
  /// subnormals, with a factor.
  template <int kStep, int kOdd>
  static __device__ std::uint32_t slot_pair(std::uint32_t first, std::uint32_t second) {
    constexpr int kSlot = 2 * kStep + kOdd;
    if constexpr (kElement == Element::kInt2) {
      return integer_pair<kElement, kSlot>(first);
    } else {
      constexpr int kPerHalf = kPerWord / 2;  // codes of half a word
      const std::uint32_t halves =
          kSlot < kPerHalf ? lower_halves(first, second) : upper_halves(first, second);
      return integer_pair<kElement, kSlot % kPerHalf>(halves);
    }
  }
  static __device__ float inverse_factor(int r, int odd) {
    const int slot = (2 * r + odd) % (kElement == Element::kInt2 ? 8 : kPerWord / 2);
    return kWeightFactor<kElement> /
           static_cast<float>(1 << (slot * ElementTraits<kElement>::kBits % 8));
  }

  struct Sums : PackedSums<kDim, true> {
    __device__ void prepare(std::uint32_t base, const Place& lane, const float (&p)[kRowTiles][4]) {
      this->weigh(base + kCodeBytes * kWarpThreads + lane.offset(), p,
                  [](int r, int odd) { return inverse_factor(r, odd); });
    }
    __device__ void multiply(std::uint32_t base, const Place& lane, int stage) {
      const std::uint32_t from = base + lane.offset();
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const uint4 first = load_shared16(from + c * kUnitBytes);
        uint4 second = first;
        if constexpr (kStageWords == 2) {
          second = load_shared16(from + (kChunks + c) * kUnitBytes);
        }
        const int chunk = stage / kParts * kChunks + c;  // of all
        const auto step = [&]<int kStep>() {
          const std::uint32_t(&b)[2] =
              this->weights[chunk / 2][stage % kParts * kStageSteps + kStep];
          const auto product = [&](int i, std::uint32_t even, std::uint32_t next_even,
                                   std::uint32_t odd, std::uint32_t next_odd) {
            cuda::multiply<Half>(this->o[2 * chunk + i], slot_pair<kStep, 0>(even, next_even),
                                 slot_pair<kStep, 0>(odd, next_odd),
                                 slot_pair<kStep, 1>(even, next_even),
                                 slot_pair<kStep, 1>(odd, next_odd), b[0], b[1]);
          };
          product(0, first.x, second.x, first.y, second.y);
          product(1, first.z, second.z, first.w, second.w);
        };
        step.template operator()<0>();
        step.template operator()<1>();
        if constexpr (kStageSteps == 4) {
          step.template operator()<2>();
          step.template operator()<3>();
        }
      }
    }
  };
};

}  // namespace pikv::kernels::cuda
