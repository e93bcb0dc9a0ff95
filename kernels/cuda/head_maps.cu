// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One block a few rows of one head, which it reads into shared memory before it writes any, so that
// y may be x; a thread an output channel. Sums run over channels in their order, whatever rows
// share the block: deterministic, and a row does not depend on its neighbours.
#include "kernels/common/error.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/head_maps.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 128;
// Rows that share one reading of the map: their sums stay in registers.
constexpr int kRows = 8;
constexpr int kMaxDim = 1024;  // kRows of them fill 32 KiB of shared memory

struct Params {
  const float* x;                    // [T, H, D]
  const float* __restrict__ maps;    // [N, D, D]
  const float* __restrict__ before;  // [N, D] or null
  const float* __restrict__ after;   // [N, D] or null
  float* y;                          // [T, H, D]
  std::int64_t num_rows;             // T
  std::int64_t num_heads;            // H
  std::int64_t heads_a_map;          // H / N
  std::int64_t dim;                  // D
};

__global__ void __launch_bounds__(kBlockThreads) head_maps_kernel(const Params params) {
  extern __shared__ float rows[];  // [kRows, D]
  const std::int64_t dim = params.dim;
  const std::int64_t num_blocks_a_head = (params.num_rows + kRows - 1) / kRows;
  const std::int64_t num_tasks = num_blocks_a_head * params.num_heads;
  for (std::int64_t task = blockIdx.x; task < num_tasks; task += gridDim.x) {
    const std::int64_t head = task % params.num_heads;
    const std::int64_t first = task / params.num_heads * kRows;
    const std::int64_t map_idx = head / params.heads_a_map;
    const float* __restrict__ before =
        params.before == nullptr ? nullptr : params.before + map_idx * dim;
    __syncthreads();  // the last task has read the rows
    for (std::int64_t i = threadIdx.x; i < kRows * dim; i += kBlockThreads) {
      const std::int64_t row = first + i / dim;
      const std::int64_t d = i % dim;
      float x = 0.0f;
      if (row < params.num_rows) x = params.x[(row * params.num_heads + head) * dim + d];
      rows[i] = before == nullptr ? x : x - before[d];
    }
    __syncthreads();
    const float* __restrict__ map = params.maps + map_idx * dim * dim;
    for (std::int64_t c = threadIdx.x; c < dim; c += kBlockThreads) {
      float sums[kRows] = {};
      for (std::int64_t d = 0; d < dim; ++d) {
        const float m = map[d * dim + c];
#pragma unroll
        for (int r = 0; r < kRows; ++r) sums[r] = fmaf(rows[r * dim + d], m, sums[r]);
      }
      const float after = params.after == nullptr ? 0.0f : params.after[map_idx * dim + c];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (first + r >= params.num_rows) break;
        params.y[((first + r) * params.num_heads + head) * dim + c] = sums[r] + after;
      }
    }
  }
}

}  // namespace

void head_maps(Exec& exec, const HeadMapsArgs& args) {
  if (args.x.size() == 0) return;
  const auto rows_of = [](const View<const float, 2>& rows) {
    return rows.extent(0) > 0 ? rows.data : nullptr;
  };
  const Params params{.x = args.x.data,
                      .maps = args.maps.data,
                      .before = rows_of(args.before),
                      .after = rows_of(args.after),
                      .y = args.y.data,
                      .num_rows = args.x.extent(0),
                      .num_heads = args.x.extent(1),
                      .heads_a_map = args.x.extent(1) / args.maps.extent(0),
                      .dim = args.x.extent(2)};
  require(params.dim <= kMaxDim, "head_maps", "head_dim = ", params.dim, " exceeds ", kMaxDim);
  const std::int64_t num_tasks = (params.num_rows + kRows - 1) / kRows * params.num_heads;
  const auto shared_bytes = static_cast<std::size_t>(kRows * params.dim) * sizeof(float);
  launch(exec.cuda_context(), head_maps_kernel, num_blocks(num_tasks, 1), kBlockThreads,
         shared_bytes, params);
  check_launch("head_maps");
}

}  // namespace pikv::kernels::cuda
