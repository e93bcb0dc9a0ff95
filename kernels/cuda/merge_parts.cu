// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/merge_parts.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kMergeThreads = kWarpsPerBlock * kWarpThreads;
constexpr int kSumThreads = 256;

struct MergeParams {
  const float* __restrict__ from_o;    // [R, T * H, D]
  const float* __restrict__ from_lse;  // [R, T * H]
  float* __restrict__ o;               // [T * H, D]
  float* __restrict__ lse;             // [T * H]
  unsigned long long mask;
  std::int64_t num_states;  // T * H
  std::int64_t head_dim;    // D
  int num_parts;            // R
};

__device__ __forceinline__ bool counts(unsigned long long mask, int part) {
  return (mask >> part & 1u) != 0;
}

__device__ __forceinline__ float lse_of(const MergeParams& params, int part, std::int64_t i) {
  return counts(params.mask, part) ? params.from_lse[part * params.num_states + i] : -INFINITY;
}

/// One warp a state. Empty parts are left out by selection, never by a weight of zero, which would
/// let a NaN of their o through.
__global__ void __launch_bounds__(kMergeThreads) merge_parts_kernel(const MergeParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  wait_for_previous();
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; i < params.num_states;
       i += stride) {
    float largest = -INFINITY;
    for (int p = 0; p < params.num_parts; ++p) largest = fmaxf(largest, lse_of(params, p, i));
    float total = 0.0f;
    for (int p = 0; p < params.num_parts; ++p) {
      const float lse = lse_of(params, p, i);
      if (lse != -INFINITY) total += expf(lse - largest);
    }
    for (std::int64_t d = lane; d < params.head_dim; d += kWarpThreads) {
      float sum = 0.0f;
      for (int p = 0; p < params.num_parts; ++p) {
        const float lse = lse_of(params, p, i);
        if (lse == -INFINITY) continue;
        const float value = params.from_o[(p * params.num_states + i) * params.head_dim + d];
        sum = fmaf(expf(lse - largest), value, sum);
      }
      params.o[i * params.head_dim + d] = total == 0.0f ? 0.0f : sum / total;
    }
    if (lane == 0) params.lse[i] = total == 0.0f ? -INFINITY : largest + logf(total);
  }
}

struct SumParams {
  const float* __restrict__ from;  // [R, T * N]
  float* __restrict__ y;           // [T * N]
  unsigned long long mask;
  std::int64_t size;  // T * N
  int num_parts;      // R
};

__global__ void __launch_bounds__(kSumThreads) sum_parts_kernel(const SumParams params) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kSumThreads;
  wait_for_previous();
  for (std::int64_t i = std::int64_t{blockIdx.x} * kSumThreads + threadIdx.x; i < params.size;
       i += stride) {
    float sum = 0.0f;
    for (int p = 0; p < params.num_parts; ++p) {
      if (counts(params.mask, p)) sum += params.from[p * params.size + i];
    }
    params.y[i] = sum;
  }
}

}  // namespace

void merge_parts(Exec& exec, const MergePartsArgs& args) {
  const std::int64_t num_states = args.lse.size();
  launch_early(exec.cuda_context(), merge_parts_kernel, num_blocks(num_states, kWarpsPerBlock),
               kMergeThreads, 0,
               MergeParams{.from_o = args.from_o.data,
                           .from_lse = args.from_lse.data,
                           .o = args.o.data,
                           .lse = args.lse.data,
                           .mask = args.mask,
                           .num_states = num_states,
                           .head_dim = args.o.extent(2),
                           .num_parts = static_cast<int>(args.from_o.extent(0))});
}

void sum_parts(Exec& exec, const SumPartsArgs& args) {
  launch_early(exec.cuda_context(), sum_parts_kernel, num_blocks(args.y.size(), kSumThreads),
               kSumThreads, 0,
               SumParams{.from = args.from.data,
                         .y = args.y.data,
                         .mask = args.mask,
                         .size = args.y.size(),
                         .num_parts = static_cast<int>(args.from.extent(0))});
}

}  // namespace pikv::kernels::cuda
