// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One warp a row, three passes over it.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/softmax.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

struct Params {
  float* __restrict__ x;                     // [T, N]
  const std::int32_t* __restrict__ lengths;  // [T]
  std::int64_t num_rows;
  std::int64_t num_cols;
};

__global__ void __launch_bounds__(kBlockThreads) softmax_kernel(const Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx;
       row < params.num_rows; row += stride) {
    float* x = params.x + row * params.num_cols;
    const std::int64_t n = params.lengths[row];
    float largest = -INFINITY;
    for (std::int64_t i = lane; i < n; i += kWarpThreads) largest = fmaxf(largest, x[i]);
    largest = warp_max(largest);
    float total = 0.0f;
    for (std::int64_t i = lane; i < n; i += kWarpThreads) total += x[i] = expf(x[i] - largest);
    total = warp_sum(total);
    for (std::int64_t i = lane; i < params.num_cols; i += kWarpThreads) {
      x[i] = i < n ? x[i] / total : 0.0f;
    }
  }
}

}  // namespace

void softmax(Exec& exec, const SoftmaxArgs& args) {
  if (args.x.size() == 0) return;
  const Params params{.x = args.x.data,
                      .lengths = args.lengths.data,
                      .num_rows = args.x.extent(0),
                      .num_cols = args.x.extent(1)};
  softmax_kernel<<<num_blocks(params.num_rows, kWarpsPerBlock), kBlockThreads, 0,
                   stream_of(exec)>>>(params);
  check_launch("softmax");
}

}  // namespace pikv::kernels::cuda
