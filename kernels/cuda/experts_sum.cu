// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kSumThreads = 256;

struct SumParams {
  const float* __restrict__ outputs;         // [T, K, hidden]
  const float* __restrict__ mix;             // [T, K]
  float* __restrict__ y;                     // [T, hidden]
  std::int64_t num_cols;                     // hidden
  std::int64_t size;                         // T * hidden
  std::int32_t num_chosen;                   // K
  const std::int32_t* __restrict__ experts;  // [T, K]
  const ExpertMatrices* __restrict__ table;
};

/// kSomeElsewhere: of experts that are elsewhere there is no output.
template <bool kSomeElsewhere>
__global__ void __launch_bounds__(kSumThreads) sum_kernel(const SumParams params) {
  wait_for_previous();
  const std::int64_t stride = std::int64_t{gridDim.x} * kSumThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kSumThreads + threadIdx.x; i < params.size;
       i += stride) {
    const std::int64_t row = i / params.num_cols;
    const std::int64_t col = i % params.num_cols;
    float total = 0.0f;
    for (std::int32_t k = 0; k < params.num_chosen; ++k) {
      const std::int64_t pair = row * params.num_chosen + k;
      if (kSomeElsewhere && !is_here(params.table, params.experts[pair])) continue;
      total = fmaf(params.mix[pair], params.outputs[pair * params.num_cols + col], total);
    }
    params.y[i] = total;
  }
}

}  // namespace

void sum_experts(Exec& exec, const ExpertsArgs& args) {
  const auto kernel = args.some_elsewhere ? sum_kernel<true> : sum_kernel<false>;
  launch_early(exec.cuda_context(), kernel, num_blocks(args.y.size(), kSumThreads), kSumThreads, 0,
               SumParams{.outputs = args.outputs.data,
                         .mix = args.mix.data,
                         .y = args.y.data,
                         .num_cols = args.x.extent(1),
                         .size = args.y.size(),
                         .num_chosen = static_cast<std::int32_t>(args.experts.extent(1)),
                         .experts = args.experts.data,
                         .table = args.table.data});
}

}  // namespace pikv::kernels::cuda
