// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/rms_norm.hpp"

namespace pikv::kernels::cuda {
namespace {

// Rows of at most this many elements (per-head norms) are served by one warp, wider ones by eight.
constexpr std::int64_t kMaxColsOfOneWarp = 256;
constexpr int kThreadsOfWideRow = 8 * kWarpThreads;

// Elements that a thread keeps; those of longer rows are read twice.
constexpr int kKept = 8;

struct Params {
  const float* x;                    // [T, N], may be y, or sum
  const float* __restrict__ weight;  // [N]
  const float* __restrict__ added;   // [T, N] or null
  float* sum;                        // [T, N] or null
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
  float weights[kKept];  // nobody writes them: read while the launch before runs
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const std::int64_t i = threadIdx.x + std::int64_t{k} * kThreads;
    weights[k] = i < params.num_cols ? params.weight[i] : 0.0f;
  }
  wait_for_previous();
  for (std::int64_t t = blockIdx.x; t < params.num_rows; t += gridDim.x) {
    const std::int64_t row = t * params.num_cols;
    const auto read = [&](std::int64_t i) {
      const float x = params.x[row + i];
      return params.added == nullptr ? x : x + params.added[row + i];
    };
    float kept[kKept];
    float total = 0.0f;
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const std::int64_t i = threadIdx.x + std::int64_t{k} * kThreads;
      kept[k] = i < params.num_cols ? read(i) : 0.0f;
      total += kept[k] * kept[k];
    }
    for (std::int64_t i = threadIdx.x + std::int64_t{kKept} * kThreads; i < params.num_cols;
         i += kThreads) {
      total += read(i) * read(i);
    }
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
    const auto write = [&](std::int64_t i, float x, float weight) {
      if (params.sum != nullptr) params.sum[row + i] = x;
      params.y[row + i] = x * scale * weight;
    };
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      const std::int64_t i = threadIdx.x + std::int64_t{k} * kThreads;
      if (i < params.num_cols) write(i, kept[k], weights[k]);
    }
    for (std::int64_t i = threadIdx.x + std::int64_t{kKept} * kThreads; i < params.num_cols;
         i += kThreads) {
      write(i, read(i), params.weight[i]);
    }
  }
}

}  // namespace

void rms_norm(Exec& exec, const RmsNormArgs& args) {
  if (args.x.size() == 0) return;
  const Params params{.x = args.x.data,
                      .weight = args.weight,
                      .added = args.added,
                      .sum = args.sum,
                      .y = args.y.data,
                      .num_rows = args.x.extent(0),
                      .num_cols = args.x.extent(1),
                      .eps = args.eps};
  const bool is_wide = params.num_cols > kMaxColsOfOneWarp;
  const int num_threads = is_wide ? kThreadsOfWideRow : kWarpThreads;
  launch_early(exec.cuda_context(),
               is_wide ? rms_norm_kernel<kThreadsOfWideRow> : rms_norm_kernel<kWarpThreads>,
               num_blocks(params.num_rows, 1), num_threads, 0, params);
}

}  // namespace pikv::kernels::cuda
