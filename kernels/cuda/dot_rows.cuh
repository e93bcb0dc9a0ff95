// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of rows of a weight with a few rows of x, by one warp: the weight is read once, in packs
// of 16 bytes a lane.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/device.cuh"

namespace pikv::kernels::cuda {

/// Elements of a weight that a lane reads at once; one where rows do not begin at 16 bytes.
template <class T>
inline constexpr int kWideRead = 16 / static_cast<int>(sizeof(T));

template <class T>
[[nodiscard]] bool reads_wide(const void* weight, std::int64_t num_inputs) {
  return num_inputs % kWideRead<T> == 0 && reinterpret_cast<std::uintptr_t>(weight) % 16 == 0;
}

template <class T, int kCount>
struct Pack {
  T items[kCount];
};

template <int kCount>
__device__ __forceinline__ void read_floats(const float* from, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 x = *reinterpret_cast<const float4*>(from + i);
      to[i] = x.x;
      to[i + 1] = x.y;
      to[i + 2] = x.z;
      to[i + 3] = x.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
  }
}

/// Sixteen bytes of a weight as they lie there, for who holds many of them for a while.
__device__ __forceinline__ uint4 read_bits_once(const void* from) {
  return __ldcs(static_cast<const uint4*>(from));
}

/// What such bytes are. They become numbers here and not before, which would take registers.
template <class T>
__device__ __forceinline__ Pack<T, kWideRead<T>> unpacked(uint4 bits) {
  asm volatile("" : "+r"(bits.x), "+r"(bits.y), "+r"(bits.z), "+r"(bits.w));
  Pack<T, kWideRead<T>> pack;
  memcpy(&pack, &bits, sizeof(pack));
  return pack;
}

/// Packs of some rows of a weight that a lane holds: all are asked for before the first is used, so
/// that memory has much to do at once. Weights depend on no launch before, so a kernel may ask for
/// the first of them before it waits for that.
template <class T, int kOutputs>
struct HeldPacks {
  static constexpr int kWide = kWideRead<T>;
  static constexpr int kCount = 16 / kOutputs;  // of each row: 64 registers in all
  static constexpr int kStep = kWarpThreads * kWide;
  uint4 bits[kOutputs][kCount];

  /// Those of inputs [begin, begin + kCount * kStep).
  __device__ __forceinline__ void read(const T* const (&weights)[kOutputs], std::int64_t begin,
                                       std::int64_t num_inputs, int lane) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const std::int64_t k = begin + i * kStep + lane * kWide;
        if (k < num_inputs) bits[o][i] = read_bits_once(weights[o] + k);
      }
    }
  }

  /// totals[o][r] += their part of weights[o] . x[r]; rows of x from num_rows on are not read.
  template <int kRows>
  __device__ __forceinline__ void add(const float* const (&x)[kRows], int num_rows,
                                      std::int64_t begin, std::int64_t num_inputs, int lane,
                                      float (&totals)[kOutputs][kRows]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const std::int64_t k = begin + i * kStep + lane * kWide;
      if (k >= num_inputs) break;
      Pack<T, kWide> packs[kOutputs];
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) packs[o] = unpacked<T>(bits[o][i]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= num_rows) break;
        float xs[kWide];
        read_floats<kWide>(x[r] + k, xs);
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
          for (int j = 0; j < kWide; ++j) {
            totals[o][r] = fmaf(widen(packs[o].items[j]), xs[j], totals[o][r]);
          }
        }
      }
    }
  }
};

/// Where packs do not lie at 16 bytes: an element a lane and step.
template <class T, int kOutputs>
struct HeldElements {
  __device__ __forceinline__ void read(const T* const (&)[kOutputs], std::int64_t, std::int64_t,
                                       int) {}
};

/// totals[o][r] += this lane's part of weights[o] . x[r] over [0, num_inputs), of which the first
/// packs are held.
template <class T, int kOutputs, int kRows>
__device__ __forceinline__ void add_dots(HeldPacks<T, kOutputs>& held,
                                         const T* const (&weights)[kOutputs],
                                         const float* const (&x)[kRows], int num_rows,
                                         std::int64_t num_inputs, int lane,
                                         float (&totals)[kOutputs][kRows]) {
  using Held = HeldPacks<T, kOutputs>;
  held.add(x, num_rows, 0, num_inputs, lane, totals);
#pragma unroll 1
  for (std::int64_t begin = Held::kCount * Held::kStep; begin < num_inputs;
       begin += Held::kCount * Held::kStep) {
    held.read(weights, begin, num_inputs, lane);
    held.add(x, num_rows, begin, num_inputs, lane, totals);
  }
}
template <class T, int kOutputs, int kRows>
__device__ __forceinline__ void add_dots(HeldElements<T, kOutputs>&,
                                         const T* const (&weights)[kOutputs],
                                         const float* const (&x)[kRows], int num_rows,
                                         std::int64_t num_inputs, int lane,
                                         float (&totals)[kOutputs][kRows]) {
#pragma unroll 4
  for (std::int64_t k = lane; k < num_inputs; k += kWarpThreads) {
    float w[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) w[o] = widen(weights[o][k]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= num_rows) break;
      const float xs = x[r][k];
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) totals[o][r] = fmaf(w[o], xs, totals[o][r]);
    }
  }
}

/// Which of them a kernel has.
template <class T, int kOutputs, bool kIsWide>
using Held = std::conditional_t<kIsWide, HeldPacks<T, kOutputs>, HeldElements<T, kOutputs>>;

}  // namespace pikv::kernels::cuda
