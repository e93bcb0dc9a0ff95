// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/gate_topk.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kBlockThreads = kWarpsPerBlock * kWarpThreads;
constexpr std::int32_t kNoExpert = 0x7fffffff;

struct Params {
  const float* __restrict__ logits;    // [T, E]
  std::int32_t* __restrict__ experts;  // [T, K]
  float* __restrict__ weights;         // [T, K]
  std::int64_t num_rows;
  int num_experts;
  int num_chosen;  // K
  bool renormalize;
};

/// Unsigned numbers in the order of floats, 0 below all of them; NaN, which no order has, may come
/// anywhere. The softmax preserves the order of logits, so comparing these chooses as exact
/// probabilities would, whatever exp rounds to.
__device__ __forceinline__ unsigned order_of(float x) {
  const unsigned bits = __float_as_uint(x == 0.0f ? 0.0f : x);  // -0 is not below 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/// One warp a row; lane i holds experts i, i + 32, ... in registers.
template <int kPerLane>
__global__ void __launch_bounds__(kBlockThreads) gate_topk_kernel(const Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  wait_for_previous();
  for (std::int64_t t = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; t < params.num_rows;
       t += stride) {
    const float* row = params.logits + t * params.num_experts;
    float logits[kPerLane];
    unsigned orders[kPerLane];  // 0: no expert, or chosen already
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * kWarpThreads + lane;
      const bool is_there = expert < params.num_experts;
      logits[i] = is_there ? row[expert] : -INFINITY;
      orders[i] = is_there ? order_of(logits[i]) : 0;
      largest = fmaxf(largest, logits[i]);
    }
    largest = warp_max(largest);
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      total += orders[i] != 0 ? expf(logits[i] - largest) : 0.0f;
    }
    total = warp_sum(total);

    std::int32_t* experts = params.experts + t * params.num_chosen;
    float* weights = params.weights + t * params.num_chosen;
    float chosen_total = 0.0f;
    const bool is_one_go = params.num_chosen <= kWarpThreads;
    for (int first = 0; first < params.num_chosen; first += kWarpThreads) {
      const int count = min(params.num_chosen - first, kWarpThreads);
      std::int32_t my_expert = kNoExpert;  // lane k has choice first + k
      float my_weight = 0.0f;
      for (int k = 0; k < count; ++k) {
        unsigned best = 0;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) best = max(best, orders[i]);
        best = __reduce_max_sync(kWholeWarp, best);
        std::int32_t expert = kNoExpert;  // the lowest of the best
        float logit = 0.0f;
#pragma unroll
        for (int i = kPerLane - 1; i >= 0; --i) {
          if (orders[i] != best) continue;
          expert = i * kWarpThreads + lane;
          logit = logits[i];
        }
        const std::int32_t chosen = __reduce_min_sync(kWholeWarp, expert);
        logit = __shfl_sync(kWholeWarp, logit, chosen % kWarpThreads);
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) {
          if (i * kWarpThreads + lane == chosen) orders[i] = 0;
        }
        if (lane == k) {
          my_expert = chosen;
          my_weight = logit;
        }
      }
      if (lane < count) my_weight = expf(my_weight - largest) / total;
      chosen_total += warp_sum(my_weight);
      if (params.renormalize && is_one_go) my_weight /= chosen_total;
      if (lane < count) {
        experts[first + lane] = my_expert;
        weights[first + lane] = my_weight;
      }
    }
    if (!params.renormalize || is_one_go) continue;
    __syncwarp();
    for (int k = lane; k < params.num_chosen; k += kWarpThreads) weights[k] /= chosen_total;
  }
}

}  // namespace

void gate_topk(Exec& exec, const GateTopkArgs& args) {
  if (args.experts.size() == 0) return;
  const std::int64_t num_experts = args.logits.extent(1);
  dispatch_at_least<32, 64, 128, 256, 512, 1024>(
      num_experts, "gate_topk", "num_experts", [&]<int kMaxExperts>() {
        const Params params{.logits = args.logits.data,
                            .experts = args.experts.data,
                            .weights = args.weights.data,
                            .num_rows = args.logits.extent(0),
                            .num_experts = static_cast<int>(num_experts),
                            .num_chosen = static_cast<int>(args.experts.extent(1)),
                            .renormalize = args.renormalize};
        launch_early(exec.cuda_context(), gate_topk_kernel<kMaxExperts / kWarpThreads>,
                     num_blocks(params.num_rows, kWarpsPerBlock), kBlockThreads, 0, params);
      });
  check_launch("gate_topk");
}

}  // namespace pikv::kernels::cuda
