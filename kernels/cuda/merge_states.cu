// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/merge_states.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kBlockThreads = kWarpsPerBlock * kWarpThreads;

struct Params {
  const float* __restrict__ from_o;    // [T * H, D]
  const float* __restrict__ from_lse;  // [T * H]
  float* __restrict__ into_o;          // [T * H, D]
  float* __restrict__ into_lse;        // [T * H]
  std::int64_t num_states;             // T * H
  std::int64_t head_dim;               // D
};

/// One warp a state. An empty side is left out by selection, never by a weight of zero, which would
/// let a NaN of its o through.
__global__ void __launch_bounds__(kBlockThreads) merge_states_kernel(const Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; i < params.num_states;
       i += stride) {
    const float* from = params.from_o + i * params.head_dim;
    float* into = params.into_o + i * params.head_dim;
    const float from_lse = params.from_lse[i];
    const float into_lse = params.into_lse[i];
    __syncwarp();  // all lanes have read into_lse before lane 0 replaces it

    if (from_lse == -INFINITY) {
      if (into_lse == -INFINITY) {
        for (std::int64_t d = lane; d < params.head_dim; d += kWarpThreads) into[d] = 0.0f;
      }
      continue;
    }
    if (into_lse == -INFINITY) {
      for (std::int64_t d = lane; d < params.head_dim; d += kWarpThreads) into[d] = from[d];
      if (lane == 0) params.into_lse[i] = from_lse;
      continue;
    }
    const float largest = fmaxf(from_lse, into_lse);
    const float from_weight = expf(from_lse - largest);
    const float into_weight = expf(into_lse - largest);
    const float total = from_weight + into_weight;
    for (std::int64_t d = lane; d < params.head_dim; d += kWarpThreads) {
      // Rounding both products, which a fused multiply-add would not, makes the sum commutative.
      into[d] = __fadd_rn(__fmul_rn(from_weight, from[d]), __fmul_rn(into_weight, into[d])) / total;
    }
    if (lane == 0) params.into_lse[i] = largest + logf(total);
  }
}

}  // namespace

void merge_states(Exec& exec, const MergeStatesArgs& args) {
  const std::int64_t num_states = args.into_lse.size();
  if (num_states == 0) return;
  const Params params{.from_o = args.from_o.data,
                      .from_lse = args.from_lse.data,
                      .into_o = args.into_o.data,
                      .into_lse = args.into_lse.data,
                      .num_states = num_states,
                      .head_dim = args.into_o.extent(2)};
  merge_states_kernel<<<num_blocks(num_states, kWarpsPerBlock), kBlockThreads, 0,
                        stream_of(exec)>>>(params);
  check_launch("merge_states");
}

}  // namespace pikv::kernels::cuda
