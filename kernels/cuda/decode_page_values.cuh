// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Values of a page that is one tile (decode_page.cuh): their scales are multiplied into the
// weights, so that codes are factors as they are.
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_page.cuh"
#include "kernels/cuda/decode_page_keys.cuh"

namespace pikv::kernels::cuda {

template <Element kElement, int kDim>
struct PageValues {
  using Form = PageForm<kElement, kDim>;
  using Traits = ElementTraits<kElement>;
  static constexpr int kNumbers = Form::kQuarterSlots / 2;  // pairs of slots of a lane
  /// What sums are multiplied by in the end.
  static __device__ constexpr float unit() { return Form::unit(); }

  /// The channel of row g of product i; that of row g + 8 is the next.
  static __device__ int channel(int i, int g) {
    return Traits::kIsInteger ? i / 2 * 32 + 4 * g + i % 2 * 2 : i / 4 * 64 + 8 * g + i % 4 * 2;
  }

  struct Sums {
    float o[kDim / 16][4] = {};
    /// Of columns 2t and 2t + 1, row g: of integers, the sum of weights times lows of group g where
    /// there is one; in all others, of weights. Each is the sum of first[i] and second[2 + i]; the
    /// rest means nothing.
    float first[4] = {};
    float second[4] = {};
    float lows[Form::kGroups][2] = {};

    __device__ void rescale(float x, float y) {
      scale_columns(o, x, y);
      first[0] *= x;
      first[1] *= y;
      second[2] *= x;
      second[3] *= y;
    }
    /// Weights of all slots of column 2t + i, on one lane of the column; zero on the others.
    __device__ float total(const Place& lane, int i) const {
      return lane.g == 7 ? first[i] + second[2 + i] : 0.0f;
    }
    __device__ void finish() {
      if constexpr (Traits::kIsInteger) {
        const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
        for (int i = 0; i < 2 * Form::kGroups; ++i) {
          lows[i / 2][i % 2] =
              __shfl_sync(kWholeWarp, first[i % 2] + second[2 + i % 2], 4 * (i / 2) + t);
        }
      }
    }
    /// To be added to channels of product i.
    __device__ float2 shift(int i) const { return {lows[i / 4][0], lows[i / 4][1]}; }

    /// Adds values times weights p, as scores lie. `ones`: eight of them in shared memory.
    __device__ void multiply(std::uint32_t from, std::uint32_t ones, const Place& lane,
                             const float (&p)[kRowTiles][4]) {
      std::uint32_t weights[kNumbers];
      in_order(p, weights);
      add_rows(from, ones, lane, weights);
      if constexpr (Form::kHasFactors) {
        constexpr float kInverse[4] = {Form::inverse_factor(0), Form::inverse_factor(1),
                                       Form::inverse_factor(2), Form::inverse_factor(3)};
#pragma unroll
        for (int i = 0; i < kNumbers; ++i) {
          weights[i] =
              as_bits(__hmul2(as_halves(weights[i]),
                              __floats2half2_rn(kInverse[i % 2 * 2], kInverse[i % 2 * 2 + 1])));
        }
      }
      const std::uint32_t codes = from + lane.t * Form::kQuarterBytes;
      const std::uint32_t scales = from + Form::kCodeBytes + lane.t * Form::kQuarterSlots * 2;
#pragma unroll
      for (int c = 0; c < Form::kGroups; ++c) {
        const uint4 front = load_shared16(scales + c * kTileSlots * 2);
        const uint4 back = load_shared16(scales + c * kTileSlots * 2 + 16);
        const std::uint32_t scaled[kNumbers] = {
            multiply_pairs(weights[0], front.x), multiply_pairs(weights[1], front.y),
            multiply_pairs(weights[2], front.z), multiply_pairs(weights[3], front.w),
            multiply_pairs(weights[4], back.x),  multiply_pairs(weights[5], back.y),
            multiply_pairs(weights[6], back.z),  multiply_pairs(weights[7], back.w)};
        if constexpr (Traits::kIsInteger) {
          multiply_integers(codes, lane, c, scaled);
        } else {
          multiply_fp8(codes, lane, c, scaled);
        }
      }
    }

   private:
    /// The weights of the lane's quarter of the slots, column g, one after the other.
    static __device__ void in_order(const float (&p)[kRowTiles][4],
                                    std::uint32_t (&weights)[kNumbers]) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        // Slots 2r, 2r + 1 of the first eight in lower halves, of the other eight in upper ones.
        const std::uint32_t even = transposed(pack<Half>(p[r][0], p[r][1]));
        const std::uint32_t odd = transposed(pack<Half>(p[r][2], p[r][3]));
        weights[r] = lower_halves(even, odd);
        weights[kRowTiles + r] = upper_halves(even, odd);
      }
    }

    __device__ void add_rows(std::uint32_t from, std::uint32_t ones, const Place& lane,
                             const std::uint32_t (&weights)[kNumbers]) {
      uint4 front;
      uint4 back;
      if constexpr (Traits::kIsInteger) {
        const std::uint32_t lows = from + Form::kCodeBytes + Form::kTableBytes +
                                   lane.g * kTileSlots * 2 + lane.t * Form::kQuarterSlots * 2;
        const bool has_low = lane.g < Form::kGroups;
        front = load_shared16(has_low ? lows : ones);
        back = load_shared16(has_low ? lows + 16 : ones);
      } else {
        front.x = front.y = front.z = front.w = PageQueries<kElement, kDim>::kOnes;
        back = front;
      }
      // Pairs 0 and 2 of four count in rows below 8, the others in the rest.
      cuda::multiply<Half>(first, front.x, front.y, front.z, front.w, weights[0], weights[2]);
      cuda::multiply<Half>(second, front.x, front.y, front.z, front.w, weights[1], weights[3]);
      cuda::multiply<Half>(first, back.x, back.y, back.z, back.w, weights[4], weights[6]);
      cuda::multiply<Half>(second, back.x, back.y, back.z, back.w, weights[5], weights[7]);
    }

    /// Group c of the channels.
    __device__ void multiply_fp8(std::uint32_t codes, const Place& lane, int c,
                                 const std::uint32_t (&scaled)[kNumbers]) {
      const std::uint32_t even = (8 * lane.g) ^ Form::value_swizzle(lane.t);
      const std::uint32_t runs[2] = {codes + even, codes + (even ^ 64)};
#pragma unroll
      for (int step = 0; step < kRowTiles; ++step) {
        uint2 v[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int at = (4 * step + j) * kDim + 64 * c;
          v[j] = load_shared8(runs[at / 64 % 2] + at / 128 * 128);
        }
        const auto product = [&]<int kByte>(int r, std::uint32_t v0, std::uint32_t v1,
                                            std::uint32_t v2, std::uint32_t v3) {
          cuda::multiply<Half>(
              o[4 * c + r], fp8_pair<kElement, kByte>(v0, v1),
              fp8_pair<kElement, kByte + 1>(v0, v1), fp8_pair<kElement, kByte>(v2, v3),
              fp8_pair<kElement, kByte + 1>(v2, v3), scaled[2 * step], scaled[2 * step + 1]);
        };
        product.template operator()<0>(0, v[0].x, v[1].x, v[2].x, v[3].x);
        product.template operator()<2>(1, v[0].x, v[1].x, v[2].x, v[3].x);
        product.template operator()<0>(2, v[0].y, v[1].y, v[2].y, v[3].y);
        product.template operator()<2>(3, v[0].y, v[1].y, v[2].y, v[3].y);
      }
    }

    __device__ void multiply_integers(std::uint32_t codes, const Place& lane, int c,
                                      const std::uint32_t (&scaled)[kNumbers]) {
      constexpr int kPerWord = Traits::kPerWord;
      const std::uint32_t run = codes + ((16 * lane.g) ^ Form::value_swizzle(lane.t));
#pragma unroll
      for (int word = 0; word < Form::kQuarterSlots / kPerWord; ++word) {
#pragma unroll
        for (int chunk = 2 * c; chunk < 2 * c + 2; ++chunk) {  // of 32 channels
          const uint4 v = load_shared16(run + word * kDim * 4 + chunk * 128);
          unrolled<kPerWord / 4>([&]<int kProduct>() {
            constexpr int kPair = 2 * kProduct;
            const std::uint32_t b0 = word_pair<kElement, kPair>(scaled + word * kPerWord / 2);
            const std::uint32_t b1 = word_pair<kElement, kPair + 1>(scaled + word * kPerWord / 2);
            const auto product = [&](int i, std::uint32_t row, std::uint32_t next_row) {
              cuda::multiply<Half>(o[2 * chunk + i], integer_pair<kElement, kPair>(row),
                                   integer_pair<kElement, kPair>(next_row),
                                   integer_pair<kElement, kPair + 1>(row),
                                   integer_pair<kElement, kPair + 1>(next_row), b0, b1);
            };
            product(0, v.x, v.y);
            product(1, v.z, v.w);
          });
        }
      }
    }
  };
};

}  // namespace pikv::kernels::cuda
