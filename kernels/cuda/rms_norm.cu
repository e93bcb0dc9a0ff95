// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/rms_norm.hpp"

namespace pikv::kernels::cuda {
namespace {

// Rows of at most this many elements (per-head norms) are served by one warp, wider ones by eight.
constexpr std::int64_t kMaxColsOfOneWarp = 512;
constexpr int kThreadsOfWideRow = 8 * kWarpThreads;

struct Params {
  const float* x;                    // [T, N], may be y
  const float* __restrict__ weight;  // [N]
  float* y;                          // [T, N]
  std::int64_t num_rows;
  std::int64_t num_cols;
  float eps;
};

/// One block a row. Each thread writes only elements that it alone has read, so y may be x.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(const Params params) {
  constexpr int kWarps = kThreads / kWarpThreads;
  __shared__ float warp_totals[kWarps];
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  for (std::int64_t t = blockIdx.x; t < params.num_rows; t += gridDim.x) {
    const float* x = params.x + t * params.num_cols;
    float* y = params.y + t * params.num_cols;

    float total = 0.0f;
    for (std::int64_t i = threadIdx.x; i < params.num_cols; i += kThreads) total += x[i] * x[i];
    total = warp_sum(total);
    if constexpr (kWarps > 1) {
      __syncthreads();  // the row before has been read
      if (threadIdx.x % kWarpThreads == 0) warp_totals[warp_idx] = total;
      __syncthreads();
      total = 0.0f;
      for (int i = 0; i < kWarps; ++i) total += warp_totals[i];
    }

    const float mean = total / static_cast<float>(params.num_cols);
    const float scale = 1.0f / sqrtf(mean + params.eps);
    for (std::int64_t i = threadIdx.x; i < params.num_cols; i += kThreads) {
      y[i] = x[i] * scale * params.weight[i];
    }
  }
}

}  // namespace

void rms_norm(Exec& exec, const RmsNormArgs& args) {
  if (args.x.size() == 0) return;
  const Params params{.x = args.x.data,
                      .weight = args.weight,
                      .y = args.y.data,
                      .num_rows = args.x.extent(0),
                      .num_cols = args.x.extent(1),
                      .eps = args.eps};
  const unsigned blocks = num_blocks(params.num_rows, 1);
  const cudaStream_t stream = stream_of(exec);
  if (params.num_cols <= kMaxColsOfOneWarp) {
    rms_norm_kernel<kWarpThreads><<<blocks, kWarpThreads, 0, stream>>>(params);
  } else {
    rms_norm_kernel<kThreadsOfWideRow><<<blocks, kThreadsOfWideRow, 0, stream>>>(params);
  }
  check_launch("rms_norm");
}

}  // namespace pikv::kernels::cuda
