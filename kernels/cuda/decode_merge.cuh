// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Parts of a unit of decode attention (decode_plan.cuh) become its output: the block that writes
// the last of them merges all, in their order. Where they are many, neighbours become one first, so
// that many blocks share the work: one block reads no faster than it waits for memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <cuda/atomic>

#include "kernels/cuda/decode_plan.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

/// `kBytes`: of shared memory, for as many parts at once as it has room for.
template <int kDim, int kWarps, std::uint32_t kBytes>
struct PartMerge {
  static constexpr int kThreads = kWarps * kWarpThreads;
  /// So many parts become one at once; of more, so many neighbours first.
  static constexpr int kMaxParts = 48;
  static constexpr int kNeighbours = 16;
  static constexpr std::uint32_t kWeightBytes =
      kHeadsPerUnit * (2 * kWarps + kMaxParts) * sizeof(float);
  static constexpr int kAtOnce =
      static_cast<int>((kBytes - kWeightBytes) / (kHeadsPerUnit * kDim * sizeof(float)));
  static_assert(kBytes > kWeightBytes && kAtOnce > 0);

  /// After this block wrote its part of a unit, of which blocks [first_block, first_block +
  /// num_blocks) write one each: merges what it is the last to wait for.
  static __device__ __noinline__ void run(const DecodeParams& params, const Unit& unit,
                                          std::int64_t row, std::int32_t first_block,
                                          std::int32_t num_blocks, float* room) {
    constexpr float kLn2 = 0.693147180559945f;
    const std::int64_t at = row * params.num_heads + unit.first_head;
    Parts parts{part_of(params, first_block, false), part_of(params, first_block, true),
                2 * PartShape{kDim}.floats(), num_blocks};
    std::int32_t mine = static_cast<std::int32_t>(blockIdx.x) - first_block;
    unsigned* counters = params.arrived + 2 * std::int64_t{first_block};
    while (true) {
      const bool are_all = parts.count <= kMaxParts;
      const std::int32_t begin = are_all ? 0 : mine / kNeighbours * kNeighbours;
      const Parts near =
          are_all ? parts : parts.slice(begin, min(kNeighbours, parts.count - begin));
      if (!arrives_last(counter_of(counters, begin), near.count)) return;
      float* const o = are_all ? params.o + at * kDim : near.first;
      float* const lse = are_all ? params.lse + at : near.first + kHeadsPerUnit * kDim;
      merge(unit.num_heads, near, o, lse, are_all ? kLn2 : 1.0f, room);
      if (are_all) return;
      parts = parts.every(kNeighbours);
      mine /= kNeighbours;
      counters += 2 * params.num_blocks;
    }
  }

 private:
  /// All but the first are the same way apart.
  struct Parts {
    float* first;
    float* others;  // as if the first were one of them
    std::int64_t stride;
    std::int32_t count;

    __device__ float* at(std::int32_t i) const { return i == 0 ? first : others + i * stride; }
    __device__ Parts slice(std::int32_t begin, std::int32_t num) const {
      return {at(begin), others + begin * stride, stride, num};
    }
    /// One of `step`.
    __device__ Parts every(std::int32_t step) const {
      return {first, others, step * stride, (count + step - 1) / step};
    }
  };

  /// That of the parts which become part `begin` of a unit. As in part_of: its first block may end
  /// another unit.
  static __device__ unsigned* counter_of(unsigned* counters, std::int32_t begin) {
    return counters + 2 * begin + (begin > 0 ? 0 : 1);
  }

  /// Counts a block that wrote one of `count` results; whether it is the last one to do so.
  static __device__ bool arrives_last(unsigned* counter, std::int32_t count) {
    __syncthreads();
    bool is_last = false;
    if (threadIdx.x == 0) {
      // What the block wrote is there before it is counted; what the others wrote is read after.
      const ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device> arrived(*counter);
      is_last =
          arrived.fetch_add(1, ::cuda::memory_order_acq_rel) == static_cast<unsigned>(count - 1);
      if (is_last) arrived.store(0, ::cuda::memory_order_relaxed);
    }
    return __syncthreads_or(is_last) != 0;
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

  /// weights[part, head] of at most kMaxParts parts, and the log-sum-exps of all, in `lse_unit`.
  static __device__ void weigh(int num_heads, const Parts& parts, float* lse, float lse_unit,
                               float* room, float* weights) {
    constexpr int kHeadThreads = kThreads / kHeadsPerUnit;
    constexpr int kEach = (kMaxParts + kHeadThreads - 1) / kHeadThreads;
    const auto head = static_cast<int>(threadIdx.x) % kHeadsPerUnit;
    const auto first = static_cast<int>(threadIdx.x) / kHeadsPerUnit;
    float weight[kEach];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int part = first + i * kHeadThreads;
      const bool is_there = part < parts.count && head < num_heads;
      weight[i] = is_there ? __ldcg(parts.at(part) + kHeadsPerUnit * kDim + head) : -INFINITY;
      largest = fmaxf(largest, weight[i]);
    }
    largest = join_of_head(largest, room, [](float a, float b) { return fmaxf(a, b); });
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      weight[i] = largest == -INFINITY ? 0.0f : exp2f(weight[i] - largest);
      total += weight[i];
    }
    total =
        join_of_head(total, room + kWarps * kHeadsPerUnit, [](float a, float b) { return a + b; });
    const float scale = total == 0.0f ? 0.0f : 1.0f / total;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int part = first + i * kHeadThreads;
      if (part < parts.count) weights[part * kHeadsPerUnit + head] = weight[i] * scale;
    }
    if (first == 0 && head < num_heads) {
      lse[head] = total == 0.0f ? -INFINITY : (largest + log2f(total)) * lse_unit;
    }
    __syncthreads();
  }

  /// Merges at most kMaxParts parts in their order. `o` and `lse` may be those of the first.
  static __device__ void merge(int num_heads, const Parts& parts, float* o, float* lse,
                               float lse_unit, float* room) {
    float* weights = room + 2 * kWarps * kHeadsPerUnit;   // [kMaxParts, kHeadsPerUnit]
    float* copied = weights + kMaxParts * kHeadsPerUnit;  // [kAtOnce, size]
    const int size = num_heads * kDim;
    constexpr int kPlaces = (kHeadsPerUnit * kDim / 4 + kThreads - 1) / kThreads;
    float4 sums[kPlaces] = {};
#pragma unroll 1
    for (int begin = 0; begin < parts.count; begin += kAtOnce) {
      const int end = min(begin + kAtOnce, parts.count);
#pragma unroll 4
      for (int p = begin; p < end; ++p) {
        const float* part = parts.at(p);
#pragma unroll
        for (int i = 0; i < kPlaces; ++i) {
          const int at = 4 * (i * kThreads + static_cast<int>(threadIdx.x));
          if (at < size) {
            copy16(shared_address(copied + (p - begin) * size + at),
                   reinterpret_cast<const std::byte*>(part + at));
          }
        }
      }
      commit_copies();
      // While the first are on their way.
      if (begin == 0) weigh(num_heads, parts, lse, lse_unit, room, weights);
      wait_for_copies<0>();  // a thread reads only what it copied
#pragma unroll 4
      for (int p = begin; p < end; ++p) {
#pragma unroll
        for (int i = 0; i < kPlaces; ++i) {
          const int at = 4 * (i * kThreads + static_cast<int>(threadIdx.x));
          if (at >= size) continue;
          const float weight = weights[p * kHeadsPerUnit + at / kDim];
          const float4 x = *reinterpret_cast<const float4*>(copied + (p - begin) * size + at);
          sums[i].x = fmaf(weight, x.x, sums[i].x);
          sums[i].y = fmaf(weight, x.y, sums[i].y);
          sums[i].z = fmaf(weight, x.z, sums[i].z);
          sums[i].w = fmaf(weight, x.w, sums[i].w);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kPlaces; ++i) {
      const int at = 4 * (i * kThreads + static_cast<int>(threadIdx.x));
      if (at < size) *reinterpret_cast<float4*>(o + at) = sums[i];
    }
    __syncthreads();  // the next unit replaces the weights
  }
};

}  // namespace pikv::kernels::cuda
