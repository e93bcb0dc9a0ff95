// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rotate_head.cuh"
#include "kernels/rope.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

struct TableParams {
  const std::int32_t* __restrict__ positions;  // [T]
  const float* __restrict__ frequencies;       // [D / 2]
  float* __restrict__ cos;                     // [T, D / 2]
  float* __restrict__ sin;                     // [T, D / 2]
  std::int64_t num_rows;
  std::int64_t half_dim;
};

__global__ void __launch_bounds__(kBlockThreads) rope_table_kernel(const TableParams params) {
  const std::int64_t size = params.num_rows * params.half_dim;
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < size;
       i += stride) {
    const auto position = static_cast<float>(params.positions[i / params.half_dim]);
    const float angle = position * params.frequencies[i % params.half_dim];
    params.cos[i] = cosf(angle);
    params.sin[i] = sinf(angle);
  }
}

struct RotateAll {
  RotateParams tensors[kMaxRopes];
};

/// One warp a head and row of one of the tensors, which follow one another.
__global__ void __launch_bounds__(kBlockThreads)
    rope_kernel(const __grid_constant__ RotateAll all) {
  std::int64_t head_row =
      std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads;
  const bool is_first = head_row < all.tensors[0].num_head_rows;
  const RotateParams& params = all.tensors[is_first ? 0 : 1];
  if (!is_first) head_row -= all.tensors[0].num_head_rows;
  wait_for_previous();
  if (head_row >= params.num_head_rows) return;
  rotate_head(params, head_row, [](std::int64_t, float) {});
}

}  // namespace

void rope_table(Exec& exec, const RopeTableArgs& args) {
  if (args.cos.size() == 0) return;
  const TableParams params{.positions = args.positions.data,
                           .frequencies = args.inverse_frequencies.data,
                           .cos = args.cos.data,
                           .sin = args.sin.data,
                           .num_rows = args.cos.extent(0),
                           .half_dim = args.cos.extent(1)};
  launch(exec.cuda_context(), rope_table_kernel, num_blocks(args.cos.size(), kBlockThreads),
         kBlockThreads, 0, params);
  check_launch("rope_table");
}

void ropes(Exec& exec, std::span<const RopeArgs> all) {
  RotateAll params{};
  std::int64_t num_head_rows = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    params.tensors[i] = rotate_params(all[i]);
    num_head_rows += params.tensors[i].num_head_rows;
  }
  if (num_head_rows == 0) return;
  launch_early(exec.cuda_context(), rope_kernel, num_blocks(num_head_rows, kWarpsPerBlock),
               kBlockThreads, 0, params);
}

}  // namespace pikv::kernels::cuda
