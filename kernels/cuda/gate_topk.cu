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

struct Candidate {
  float logit;
  std::int32_t expert;
};

/// Larger first, then the lower id; kNoExpert loses to all. The softmax preserves the order of
/// logits, so comparing these chooses as exact probabilities would, whatever exp rounds to.
__device__ bool comes_before(const Candidate& a, const Candidate& b) {
  if (a.expert == kNoExpert || b.expert == kNoExpert) return a.expert < b.expert;
  return a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
}

/// One warp a row; lane i holds experts i, i + 32, ... in registers.
template <int kPerLane>
__global__ void __launch_bounds__(kBlockThreads) gate_topk_kernel(const Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  admit_next();
  wait_for_previous();
  for (std::int64_t t = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; t < params.num_rows;
       t += stride) {
    const float* row = params.logits + t * params.num_experts;
    float logits[kPerLane];
    bool open[kPerLane];  // a real expert that is not chosen yet
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * kWarpThreads + lane;
      open[i] = expert < params.num_experts;
      logits[i] = open[i] ? row[expert] : -INFINITY;
      largest = fmaxf(largest, logits[i]);
    }
    largest = warp_max(largest);
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) total += open[i] ? expf(logits[i] - largest) : 0.0f;
    total = warp_sum(total);

    std::int32_t* experts = params.experts + t * params.num_chosen;
    float* weights = params.weights + t * params.num_chosen;
    float chosen_total = 0.0f;
    for (int k = 0; k < params.num_chosen; ++k) {
      Candidate best{-INFINITY, kNoExpert};
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        const Candidate mine{logits[i], i * kWarpThreads + lane};
        if (open[i] && comes_before(mine, best)) best = mine;
      }
      for (int step = kWarpThreads / 2; step > 0; step /= 2) {
        const Candidate other{__shfl_xor_sync(kWholeWarp, best.logit, step),
                              __shfl_xor_sync(kWholeWarp, best.expert, step)};
        if (comes_before(other, best)) best = other;
      }
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        if (i * kWarpThreads + lane == best.expert) open[i] = false;
      }
      const float probability = expf(best.logit - largest) / total;
      chosen_total += probability;
      if (lane == 0) {
        experts[k] = best.expert;
        weights[k] = probability;
      }
    }
    if (params.renormalize) {
      __syncwarp();  // lane 0 wrote what all lanes now read
      for (int k = lane; k < params.num_chosen; k += kWarpThreads) weights[k] /= chosen_total;
    }
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
