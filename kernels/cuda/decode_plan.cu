// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cub/block/block_scan.cuh>

#include "kernels/cuda/decode_plan.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kCountThreads = 1024;

/// One block.
__global__ void __launch_bounds__(kCountThreads)
    count_tiles_kernel(const __grid_constant__ DecodeParams params) {
  wait_for_previous();
  using Scan = cub::BlockScan<std::int32_t, kCountThreads>;
  __shared__ typename Scan::TempStorage storage;
  __shared__ std::int32_t longest;
  __shared__ std::int32_t shortest;
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  if (thread == 0) {
    longest = 0;
    shortest = INT32_MAX;
  }
  __syncthreads();
  for (std::int32_t i = thread; i < params.num_units; i += kCountThreads) {
    const std::int32_t tiles = tiles_of(params, unit_at(params, i));
    atomicMax(&longest, tiles);
    atomicMin(&shortest, tiles);
  }
  __syncthreads();
  Division division = divide_equally(params, {longest, shortest});
  const Places places{params.places};
  std::int32_t before = 0;
  for (std::int32_t base = 0; base < params.num_units; base += kCountThreads) {
    const std::int32_t i = base + thread;
    const std::int32_t mine =
        i < params.num_units ? place_of(params, division, tiles_of(params, unit_at(params, i))) : 0;
    std::int32_t first = 0;
    std::int32_t sum = 0;
    Scan(storage).ExclusiveSum(mine, first, sum);
    if (i < params.num_units) places.begin(i) = before + first;
    before += sum;
    __syncthreads();  // the storage is used again
  }
  bool are_long = false;
  for (std::int64_t i = threadIdx.x; i < params.num_segments; i += kCountThreads) {
    are_long = are_long || params.segments[i].row_end - params.segments[i].row_begin > 1;
  }
  are_long = __syncthreads_or(are_long) != 0;
  if (threadIdx.x == 0) {
    places.begin(params.num_units) = before;
    division.block_tiles = range_of(params, division, before);
    places.set(division);
    *params.long_segments = {.exist = are_long ? 1 : 0, .num_items_taken = 0};
  }
}

}  // namespace

void count_tiles(CudaContext& context, const DecodeParams& params) {
  launch_early(context, count_tiles_kernel, 1, kCountThreads, 0, params);
  check_launch("attention: count_tiles");
}

}  // namespace pikv::kernels::cuda
