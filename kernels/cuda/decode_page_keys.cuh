// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys of a page that is one tile (decode_page.cuh): their scales are multiplied into the queries,
// so that codes are factors as they are.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_page.cuh"
#include "kernels/cuda/decode_queries.cuh"

namespace pikv::kernels::cuda {

/// Queries of a unit in shared memory: of lane (g, t), head g and the t-th quarter of the channels,
/// 16 bytes at a time for all lanes; once more divided by the factors of codes, if there are any.
/// So that products with scales stay float16, each head is multiplied by a power of two, with which
/// its largest channel is between PageForm::kLift and twice that.
template <Element kElement, int kDim>
struct PageQueries {
  using Form = PageForm<kElement, kDim>;
  static constexpr std::uint32_t kSetBytes = kDim * kHeadsPerUnit * 2;
  static constexpr std::uint32_t kSets = Form::kHasFactors ? 2 : 1;
  // Where eight ones lie, and [kHeadsPerUnit] floats that undo these powers.
  static constexpr std::uint32_t kOnesBytes = kSets * kSetBytes;
  static constexpr std::uint32_t kUnitsBytes = kOnesBytes + 16;
  static constexpr std::uint32_t kBytes = kOnesBytes + kUnitBytes / 4;
  static_assert(kUnitsBytes + kHeadsPerUnit * sizeof(float) <= kBytes);

  /// By all warps of a block.
  template <int kWarps>
  static __device__ void stage(const DecodeParams& params, const QueryRows<kDim>& q, char* memory) {
    constexpr float kLog2E = 1.44269504088896f;
    const float scale = params.scale * kLog2E;
    const int lane_idx = static_cast<int>(threadIdx.x) % kWarpThreads;
    const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
    constexpr int kPieces = (kDim / 4 + kWarpThreads - 1) / kWarpThreads;  // of 4 channels, a lane
    for (int head = warp_idx; head < kHeadsPerUnit; head += kWarps) {
      float4 x[kPieces] = {};
      float largest = 0.0f;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int d = 4 * (i * kWarpThreads + lane_idx);
        if (d >= kDim) continue;
        const float4 from = *reinterpret_cast<const float4*>(q.of(head) + d);
        x[i] = {from.x * scale, from.y * scale, from.z * scale, from.w * scale};
        largest = fmaxf(fmaxf(largest, fmaxf(fabsf(x[i].x), fabsf(x[i].y))),
                        fmaxf(fabsf(x[i].z), fabsf(x[i].w)));
      }
      for (int step = 1; step < kWarpThreads; step *= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, step));
      }
      // Exponents with which neither power nor its products with lift and unit leave float32.
      const std::uint32_t exponent = min(max(__float_as_uint(largest) >> 23, 32u), 200u);
      const float power = __uint_as_float((254u - exponent) << 23) * Form::kLift;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int d = 4 * (i * kWarpThreads + lane_idx);
        if (d >= kDim) continue;
        const float4 y = {x[i].x * power, x[i].y * power, x[i].z * power, x[i].w * power};
        const int channel = d % Form::kQuarterChannels;
        const int place = channel / 8 * kWarpThreads + 4 * head + d / Form::kQuarterChannels;
        // Pairs 0, 2, 1, 3 of eight channels: as two products with lows have them.
        const auto store = [&](char* to, const float4& z) {
          *reinterpret_cast<std::uint32_t*>(to) = pack<Half>(z.x, z.y);
          *reinterpret_cast<std::uint32_t*>(to + 8) = pack<Half>(z.z, z.w);
        };
        char* to = memory + place * 16 + channel % 8;
        store(to, y);
        if constexpr (Form::kHasFactors) {
          store(to + kSetBytes, {y.x * Form::inverse_factor(0), y.y * Form::inverse_factor(1),
                                 y.z * Form::inverse_factor(2), y.w * Form::inverse_factor(3)});
        }
      }
      if (lane_idx == 0) {
        reinterpret_cast<float*>(memory + kUnitsBytes)[head] =
            __uint_as_float(exponent << 23) / Form::kLift;
      }
    }
    if (threadIdx.x < 4) reinterpret_cast<std::uint32_t*>(memory + kOnesBytes)[threadIdx.x] = kOnes;
  }
  static constexpr std::uint32_t kOnes = 0x3c003c00u;  // a pair of 1.0
};

template <Element kElement, int kDim>
struct PageKeys {
  using Form = PageForm<kElement, kDim>;
  using Queries = PageQueries<kElement, kDim>;

  /// scores = keys q, of slots 8g + 2r and 8g + 2r + 1 in scores[r], less Form::unit() and the
  /// power of the head; of integers, less their lows, and low[0], low[1] = lows q, less the power.
  static __device__ void multiply(std::uint32_t from, std::uint32_t queries, const Place& lane,
                                  float (&scores)[kRowTiles][4], float (&low)[2]) {
    const std::uint32_t q = queries + (4 * lane.g + lane.t) * 16;
    const std::uint32_t codes = from + lane.t * Form::kQuarterBytes;
    const std::uint32_t scales = from + Form::kCodeBytes + lane.t * Form::kQuarterChannels * 2;
    if constexpr (ElementTraits<kElement>::kIsInteger) {
      multiply_integers(codes, scales, q, lane, scores, low);
    } else {
      multiply_fp8(codes, scales, q, lane, scores);
    }
  }

 private:
  /// Pairs of eight channels in their order.
  static __device__ void scale_queries(const uint4& q, const uint4& scales, std::uint32_t* scaled) {
    scaled[0] = multiply_pairs(q.x, scales.x);
    scaled[1] = multiply_pairs(q.z, scales.y);
    scaled[2] = multiply_pairs(q.y, scales.z);
    scaled[3] = multiply_pairs(q.w, scales.w);
  }

  static __device__ void multiply_fp8(std::uint32_t codes, std::uint32_t scales, std::uint32_t q,
                                      const Place& lane, float (&scores)[kRowTiles][4]) {
    // Rows of two channels share 128 bytes.
    const std::uint32_t even = (8 * lane.g) ^ Form::key_swizzle(lane.t);
    const std::uint32_t rows[2] = {codes + even, codes + (even ^ 64)};
#pragma unroll
    for (int i = 0; i < Form::kQuarterChannels / 8; ++i) {
      const uint4 x = load_shared16(q + i * kUnitBytes);
      const uint4 s = load_shared16(scales + i * 16);
      std::uint32_t b[4];
      scale_queries(x, s, b);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint2 k[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          k[j] = load_shared8(rows[j % 2] + (8 * i + 4 * half + j) / 2 * 128);
        }
        const auto product = [&]<int kByte>(int r, std::uint32_t k0, std::uint32_t k1,
                                            std::uint32_t k2, std::uint32_t k3) {
          cuda::multiply<Half>(scores[r], fp8_pair<kElement, kByte>(k0, k1),
                               fp8_pair<kElement, kByte + 1>(k0, k1),
                               fp8_pair<kElement, kByte>(k2, k3),
                               fp8_pair<kElement, kByte + 1>(k2, k3), b[2 * half], b[2 * half + 1]);
        };
        product.template operator()<0>(0, k[0].x, k[1].x, k[2].x, k[3].x);
        product.template operator()<2>(1, k[0].x, k[1].x, k[2].x, k[3].x);
        product.template operator()<0>(2, k[0].y, k[1].y, k[2].y, k[3].y);
        product.template operator()<2>(3, k[0].y, k[1].y, k[2].y, k[3].y);
      }
    }
  }

  static __device__ void multiply_integers(std::uint32_t codes, std::uint32_t scales,
                                           std::uint32_t q, const Place& lane,
                                           float (&scores)[kRowTiles][4], float (&low)[2]) {
    constexpr int kPerWord = ElementTraits<kElement>::kPerWord;
    constexpr int kUnits = kPerWord > 8 ? kPerWord / 8 : 1;  // of 8 channels, of a step
    constexpr int kWords = 8 * kUnits / kPerWord;
    const std::uint32_t swizzled = (32 * lane.g) ^ Form::key_swizzle(lane.t);
    const std::uint32_t front = codes + swizzled;  // the first four slots
    const std::uint32_t back = codes + (swizzled ^ 16);
    float first[4] = {};
    float second[4] = {};
#pragma unroll
    for (int step = 0; step < Form::kQuarterChannels / (8 * kUnits); ++step) {
      std::uint32_t scaled[4 * kUnits];
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const int i = step * kUnits + u;
        const uint4 x = load_shared16(q + i * kUnitBytes);
        const uint4 s = load_shared16(scales + i * 16);
        const uint4 l = load_shared16(scales + Form::kTableBytes + i * 16);
        uint4 y = x;
        if constexpr (Form::kHasFactors) y = load_shared16(q + Queries::kSetBytes + i * kUnitBytes);
        // Pairs 0 and 2 of lows are keys of all rows below 8, the others of all other rows.
        cuda::multiply<Half>(first, l.x, l.y, l.z, l.w, x.x, x.y);
        cuda::multiply<Half>(second, l.x, l.y, l.z, l.w, x.z, x.w);
        scale_queries(y, s, scaled + 4 * u);
      }
#pragma unroll
      for (int word = 0; word < kWords; ++word) {
        const int row = step * kWords + word;
        const uint4 a = load_shared16(front + row * kTileSlots * 4);
        const uint4 b = load_shared16(back + row * kTileSlots * 4);
        unrolled<kPerWord / 4>([&]<int kProduct>() {
          constexpr int kPair = 2 * kProduct;
          const std::uint32_t b0 = word_pair<kElement, kPair>(scaled + word * kPerWord / 2);
          const std::uint32_t b1 = word_pair<kElement, kPair + 1>(scaled + word * kPerWord / 2);
          const auto product = [&](int r, std::uint32_t even, std::uint32_t odd) {
            cuda::multiply<Half>(scores[r], integer_pair<kElement, kPair>(even),
                                 integer_pair<kElement, kPair>(odd),
                                 integer_pair<kElement, kPair + 1>(even),
                                 integer_pair<kElement, kPair + 1>(odd), b0, b1);
          };
          product(0, a.x, a.y);
          product(1, a.z, a.w);
          product(2, b.x, b.y);
          product(3, b.z, b.w);
        });
      }
    }
    low[0] = first[0] + second[2];
    low[1] = first[1] + second[3];
  }
};

}  // namespace pikv::kernels::cuda
