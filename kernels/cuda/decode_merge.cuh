// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Parts of a unit of decode attention (decode_plan.cuh) become its output. Few are merged by the
// block that writes the last of them. Of many, each of the last blocks of the unit has a head: done
// with its range, it waits until all parts are written and merges that head of them. So a block
// waits only for blocks before it, which begin before it and never wait for it: nobody keeps out
// whom he waits for. Parts are merged in their order, whoever does it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cuda/atomic>

#include "kernels/cuda/decode_plan.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {

/// A unit of which blocks [first_block, first_block + num_blocks), at least two, write a part each.
struct CutUnit {
  std::int64_t output;  // its first head among all of params.lse
  std::int32_t num_heads;
  std::int32_t first_block;
  std::int32_t num_blocks;

  /// One block merges so many before several would know that all are written; and with more, the
  /// first block has no head: it may be the last one of another unit.
  [[nodiscard]] __device__ bool has_few_parts() const { return num_blocks <= kHeadsPerUnit; }
  /// That this block merges, of many parts; negative if none.
  [[nodiscard]] __device__ std::int32_t head() const {
    const std::int32_t end = first_block + num_blocks;
    return kHeadsPerUnit - (end - static_cast<std::int32_t>(blockIdx.x));
  }
};

/// `kBytes`: of shared memory, for as many parts at once as it has room for.
template <int kDim, int kWarps, std::uint32_t kBytes>
class PartMerge {
  static constexpr int kThreads = kWarps * kWarpThreads;
  // Of one head, or of few parts.
  static constexpr int kWeights = static_cast<int>(kMaxDecodeBlocks);
  static_assert(kWeights >= kHeadsPerUnit * kHeadsPerUnit);
  static constexpr int kRoom = static_cast<int>(kBytes / sizeof(float)) - kWeights;
  static_assert(kRoom >= kHeadsPerUnit * kDim);
  using Counter = ::cuda::atomic_ref<unsigned, ::cuda::thread_scope_device>;

 public:
  /// After this block wrote its part of a unit of few, and all of its threads know: merges them if
  /// it was the last to do so.
  static __device__ __noinline__ void merge_if_last(const DecodeParams& params, CutUnit cut,
                                                    float* room) {
    const Counter counter(params.arrived[cut.first_block]);
    bool is_last = false;
    if (threadIdx.x == 0) {
      is_last = counter.fetch_add(1, ::cuda::memory_order_acq_rel) ==
                static_cast<unsigned>(cut.num_blocks) - 1;
      if (is_last) counter.store(0, ::cuda::memory_order_relaxed);
    }
    if (__syncthreads_or(is_last) == 0) return;
    merge<kHeadsPerUnit>(params, cut, 0, room);
    __syncthreads();  // the next unit replaces all of it
  }

  /// After this block wrote its part of a unit of many, and all of its threads know.
  static __device__ void count(const DecodeParams& params, const CutUnit& cut) {
    if (threadIdx.x != 0) return;
    Counter(params.arrived[cut.first_block]).fetch_add(1, ::cuda::memory_order_release);
  }

  /// Waits until all parts of a unit of many are counted, then merges this block's head of them.
  static __device__ __noinline__ void merge_head(const DecodeParams& params, CutUnit cut,
                                                 float* room) {
    if (cut.head() >= cut.num_heads) return;
    const Counter counter(params.arrived[cut.first_block]);
    const auto num_parts = static_cast<unsigned>(cut.num_blocks);
    unsigned num_before = 0;
    if (threadIdx.x == 0) {
      while (counter.load(::cuda::memory_order_acquire) < num_parts) {
      }
      num_before = counter.fetch_add(1, ::cuda::memory_order_relaxed);
    }
    __syncthreads();
    merge<1>(params, cut, cut.head(), room);
    // The last one to know leaves the counter as it was.
    if (threadIdx.x == 0 && num_before == num_parts + static_cast<unsigned>(cut.num_heads) - 1) {
      counter.store(0, ::cuda::memory_order_relaxed);
    }
  }

 private:
  /// Of a unit. All but the first are the same way apart.
  struct Parts {
    const float* first;
    const float* others;  // as if the first were one of them
    std::int32_t count;

    __device__ const float* at(std::int32_t i) const {
      return i == 0 ? first : others + i * (2 * PartShape{kDim}.floats());
    }
  };

  /// Merges `kHeads` heads from `first_head` on, of those that the unit has.
  template <int kHeads>
  static __device__ void merge(const DecodeParams& params, const CutUnit& cut,
                               std::int32_t first_head, float* room) {
    constexpr int kSize = kHeads * kDim;
    constexpr int kEach = (kSize + kThreads - 1) / kThreads;
    constexpr int kChunk = 4;  // floats a copy
    constexpr int kChunks = kSize / kChunk;
    constexpr int kAtOnce = kRoom / kSize;
    const Parts parts{part_of(params, cut.first_block, false),
                      part_of(params, cut.first_block, true), cut.num_blocks};
    const std::int64_t at = cut.output + first_head;
    const int num_heads = min(kHeads, cut.num_heads - first_head);
    const int size = num_heads * kDim;
    float* weights = room;            // [num_heads, parts]
    float* copied = room + kWeights;  // [kAtOnce, kSize]
    float sums[kEach] = {};
#pragma unroll 1
    for (int begin = 0; begin < parts.count; begin += kAtOnce) {
      const int count = min(kAtOnce, parts.count - begin);
      if (begin > 0) __syncthreads();  // all have read what is replaced
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < count * kChunks; i += kThreads) {
        const int channel = i % kChunks * kChunk;
        if (channel >= size) continue;
        const float* const from = parts.at(begin + i / kChunks) + first_head * kDim + channel;
        copy16(shared_address(copied + i * kChunk), reinterpret_cast<const std::byte*>(from));
      }
      commit_copies();
      // While the first are on their way.
      if (begin == 0) weigh<kHeads>(num_heads, parts, first_head, params.lse + at, weights);
      wait_for_copies<0>();
      __syncthreads();
#pragma unroll(kEach == 1 ? 8 : 2)
      for (int p = 0; p < count; ++p) {
#pragma unroll
        for (int k = 0; k < kEach; ++k) {
          const int i = k * kThreads + static_cast<int>(threadIdx.x);
          if (i >= size) break;
          const float weight = weights[i / kDim * parts.count + begin + p];
          sums[k] = fmaf(weight, copied[p * kSize + i], sums[k]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const int i = k * kThreads + static_cast<int>(threadIdx.x);
      if (i < size) params.o[at * kDim + i] = sums[k];
    }
  }

  /// weights[head, part], and the log-sum-exps of all parts.
  template <int kHeads>
  static __device__ void weigh(int num_heads, const Parts& parts, std::int32_t first_head,
                               float* lse, float* weights) {
    constexpr float kLn2 = 0.693147180559945f;
    constexpr int kLanes = kHeads == 1 ? kWarpThreads : kThreads / kHeads;  // of a head
    static_assert(kLanes <= kWarpThreads);
    constexpr int kReads = 4;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    const int head = static_cast<int>(threadIdx.x) / kLanes;
    const bool is_there = head < num_heads;
    const int count = is_there ? parts.count : 0;
    float* const of_head = weights + head * parts.count;
    float largest = -INFINITY;
#pragma unroll 1
    for (int base = lane; base < count; base += kReads * kLanes) {
      float read[kReads];
#pragma unroll
      for (int i = 0; i < kReads; ++i) {
        const int part = base + i * kLanes;
        read[i] = part < count ? __ldcg(parts.at(part) + kHeadsPerUnit * kDim + first_head + head)
                               : -INFINITY;
      }
#pragma unroll
      for (int i = 0; i < kReads; ++i) {
        const int part = base + i * kLanes;
        if (part < count) of_head[part] = read[i];
        largest = fmaxf(largest, read[i]);
      }
    }
    largest = join<kLanes>(largest, [](float a, float b) { return fmaxf(a, b); });
    float total = 0.0f;
    for (int part = lane; part < count; part += kLanes) {
      const float weight = largest == -INFINITY ? 0.0f : exp2f(of_head[part] - largest);
      of_head[part] = weight;
      total += weight;
    }
    total = join<kLanes>(total, [](float a, float b) { return a + b; });
    const float scale = total == 0.0f ? 0.0f : 1.0f / total;
    for (int part = lane; part < count; part += kLanes) of_head[part] *= scale;
    if (is_there && lane == 0) {
      lse[head] = total == 0.0f ? -INFINITY : (largest + log2f(total)) * kLn2;
    }
  }

  /// Of kLanes neighbours, in each of them.
  template <int kLanes, class Join>
  static __device__ float join(float x, const Join& join_two) {
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) {
      x = join_two(x, __shfl_xor_sync(kWholeWarp, x, step));
    }
    return x;
  }
};

}  // namespace pikv::kernels::cuda
