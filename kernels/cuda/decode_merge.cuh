// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Parts of a unit of decode attention (decode_plan.cuh) become its output: the block that writes
// the last of them merges all, in their order.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_plan.cuh"
#include "kernels/cuda/device.cuh"

namespace pikv::kernels::cuda {

template <int kDim, int kWarps>
struct PartMerge {
  static constexpr int kThreads = kWarps * kWarpThreads;

  /// The parts of a unit: one of each of some blocks that follow one another. All but the first are
  /// the same way apart (part_of).
  struct Parts {
    std::int32_t first_block;
    std::int32_t count;
    static constexpr std::int64_t kStride = 2 * PartShape{kDim}.floats();

    __device__ const float* first(const DecodeParams& params) const {
      return part_of(params, first_block, false);
    }
    /// As if it were one of the others.
    __device__ const float* others(const DecodeParams& params) const {
      return part_of(params, first_block, true);
    }
  };

  /// Whether this block, which wrote a part, is the last one to do so.
  static __device__ bool arrives_last(const DecodeParams& params, std::int32_t unit_idx,
                                      const Parts& parts) {
    __threadfence();  // what this thread wrote is there before the block is counted
    __syncthreads();
    bool is_last = false;
    if (threadIdx.x == 0) {
      const auto others = static_cast<unsigned>(parts.count - 1);
      is_last = atomicAdd(params.arrived + unit_idx, 1) == others;
      if (is_last) params.arrived[unit_idx] = 0;
    }
    is_last = __syncthreads_or(is_last) != 0;
    if (is_last) __threadfence();  // and what the others wrote is read after
    return is_last;
  }

  /// The largest, or the sum, of what the threads with the same head (threadIdx.x % kHeadsPerUnit)
  /// have. `room`: [kWarps, kHeadsPerUnit], used again after the next barrier but one.
  template <class Join>
  static __device__ float join_of_head(float x, float* room, const Join& join) {
    for (int step = kHeadsPerUnit; step < kWarpThreads; step *= 2) {
      x = join(x, __shfl_xor_sync(kWholeWarp, x, step));
    }
    const auto head = static_cast<int>(threadIdx.x) % kHeadsPerUnit;
    if (threadIdx.x % kWarpThreads < kHeadsPerUnit) {
      room[static_cast<int>(threadIdx.x) / kWarpThreads * kHeadsPerUnit + head] = x;
    }
    __syncthreads();
    x = room[head];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) x = join(x, room[w * kHeadsPerUnit + head]);
    return x;
  }

  /// Merges the parts of a unit in their order. `room`: [2 kWarps + parts, kHeadsPerUnit].
  static __device__ __noinline__ void merge(const DecodeParams& params, const Unit& unit,
                                            std::int64_t row, const Parts& parts, float* room) {
    constexpr float kLn2 = 0.693147180559945f;
    const float* first = parts.first(params);
    const float* others = parts.others(params);
    const std::int64_t at = row * params.num_heads + unit.first_head;
    float* weights = room + 2 * kWarps * kHeadsPerUnit;  // [parts, kHeadsPerUnit]
    const auto head = static_cast<int>(threadIdx.x) % kHeadsPerUnit;
    const auto my_part = static_cast<int>(threadIdx.x) / kHeadsPerUnit;
    constexpr int kPartsAtOnce = kThreads / kHeadsPerUnit;
    float largest = -INFINITY;
    for (int p = my_part; p < parts.count; p += kPartsAtOnce) {
      const float* part = p == 0 ? first : others + p * Parts::kStride;
      const float lse =
          head < unit.num_heads ? __ldcg(part + kHeadsPerUnit * kDim + head) : -INFINITY;
      weights[p * kHeadsPerUnit + head] = lse;
      largest = fmaxf(largest, lse);
    }
    largest = join_of_head(largest, room, [](float a, float b) { return fmaxf(a, b); });
    float total = 0.0f;
    for (int p = my_part; p < parts.count; p += kPartsAtOnce) {
      float& weight = weights[p * kHeadsPerUnit + head];
      weight = largest == -INFINITY ? 0.0f : exp2f(weight - largest);
      total += weight;
    }
    total =
        join_of_head(total, room + kWarps * kHeadsPerUnit, [](float a, float b) { return a + b; });
    const float scale = total == 0.0f ? 0.0f : 1.0f / total;
    for (int p = my_part; p < parts.count; p += kPartsAtOnce) {
      weights[p * kHeadsPerUnit + head] *= scale;
    }
    if (my_part == 0 && head < unit.num_heads) {
      params.lse[at + head] = total == 0.0f ? -INFINITY : (largest + log2f(total)) * kLn2;
    }
    __syncthreads();
    for (auto i = static_cast<int>(threadIdx.x); i < unit.num_heads * kDim / 4; i += kThreads) {
      const float* of_head = weights + i / (kDim / 4);
      const auto read = [&](const float* part) {
        return __ldcg(reinterpret_cast<const float4*>(part) + i);
      };
      float4 sum{};
      const auto add = [&](const float4& x, float weight) {
        sum.x = fmaf(weight, x.x, sum.x);
        sum.y = fmaf(weight, x.y, sum.y);
        sum.z = fmaf(weight, x.z, sum.z);
        sum.w = fmaf(weight, x.w, sum.w);
      };
      add(read(first), of_head[0]);
      constexpr int kAtOnce = 16;  // reads
      for (int begin = 1; begin < parts.count; begin += kAtOnce) {
        float4 x[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          x[j] = read(others + min(begin + j, parts.count - 1) * Parts::kStride);
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
          if (begin + j < parts.count) add(x[j], of_head[(begin + j) * kHeadsPerUnit]);
        }
      }
      reinterpret_cast<float4*>(params.o + at * kDim)[i] = sum;
    }
    __syncthreads();  // the next unit replaces the weights
  }
};

}  // namespace pikv::kernels::cuda
