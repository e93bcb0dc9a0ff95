// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.cuh"
#include "kernels/rope.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;

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

struct RotateParams {
  const float* __restrict__ cos;  // [T, D / 2]
  const float* __restrict__ sin;  // [T, D / 2]
  float* __restrict__ x;          // [T, H, D]
  std::int64_t num_rows;
  std::int64_t num_heads;
  std::int64_t half_dim;
};

/// One thread a pair of channels.
__global__ void __launch_bounds__(kBlockThreads) rope_kernel(const RotateParams params) {
  const std::int64_t size = params.num_rows * params.num_heads * params.half_dim;
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < size;
       i += stride) {
    const std::int64_t channel = i % params.half_dim;
    const std::int64_t head_row = i / params.half_dim;  // of [T * H]
    const std::int64_t angle = head_row / params.num_heads * params.half_dim + channel;
    const float cos = params.cos[angle];
    const float sin = params.sin[angle];
    float* low = params.x + head_row * 2 * params.half_dim + channel;
    float* high = low + params.half_dim;
    const float a = *low;
    const float b = *high;
    *low = a * cos - b * sin;
    *high = b * cos + a * sin;
  }
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
  rope_table_kernel<<<num_blocks(args.cos.size(), kBlockThreads), kBlockThreads, 0,
                      stream_of(exec)>>>(params);
  check_launch("rope_table");
}

void rope(Exec& exec, const RopeArgs& args) {
  if (args.x.size() == 0) return;
  const RotateParams params{.cos = args.cos.data,
                            .sin = args.sin.data,
                            .x = args.x.data,
                            .num_rows = args.x.extent(0),
                            .num_heads = args.x.extent(1),
                            .half_dim = args.x.extent(2) / 2};
  rope_kernel<<<num_blocks(args.x.size() / 2, kBlockThreads), kBlockThreads, 0, stream_of(exec)>>>(
      params);
  check_launch("rope");
}

}  // namespace pikv::kernels::cuda
