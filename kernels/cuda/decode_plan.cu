// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cub/block/block_scan.cuh>

#include "kernels/cuda/decode_plan.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kCountThreads = 1024;
constexpr int kMergeWarps = 8;
constexpr int kMergeThreads = kMergeWarps * kWarpThreads;
constexpr int kMaxPerLane = 256 / kWarpThreads;  // of head sizes up to 256

/// The most heads that a unit has.
__host__ __device__ std::uint32_t widest_unit(const DecodeParams& params) {
  return static_cast<std::uint32_t>(params.group_size < kHeadsPerUnit ? params.group_size
                                                                      : kHeadsPerUnit);
}

__device__ std::int64_t tiles_of(const DecodeParams& params, const Unit& unit) {
  const AttentionSegment segment = *unit.segment;
  if (segment.row_end - segment.row_begin != 1) return 0;
  const StreamView* streams = streams_of(params.streams, segment, unit.kv_head);
  std::int64_t count = 0;
  for (std::int32_t s = 0; s < segment.num_streams; ++s) {
    count += sealed_tiles(params, streams[s]) + open_tiles(params, streams[s]);
  }
  return count;
}

/// One block.
__global__ void __launch_bounds__(kCountThreads)
    count_tiles_kernel(const __grid_constant__ DecodeParams params) {
  admit_next();
  using Scan = cub::BlockScan<long long, kCountThreads>;
  __shared__ typename Scan::TempStorage storage;
  long long before = 0;
  for (std::int64_t base = 0; base < params.num_units; base += kCountThreads) {
    const std::int64_t i = base + threadIdx.x;
    const long long mine = i < params.num_units ? tiles_of(params, unit_at(params, i)) : 0;
    long long first = 0;
    long long sum = 0;
    Scan(storage).ExclusiveSum(mine, first, sum);
    if (i < params.num_units) params.first_tiles[i] = before + first;
    before += sum;
    __syncthreads();  // the storage is used again
  }
  bool are_long = false;
  for (std::int64_t i = threadIdx.x; i < params.num_segments; i += kCountThreads) {
    are_long = are_long || params.segments[i].row_end - params.segments[i].row_begin > 1;
  }
  are_long = __syncthreads_or(are_long) != 0;
  if (threadIdx.x == 0) {
    params.first_tiles[params.num_units] = before;
    *params.long_segments = {.exist = are_long ? 1 : 0, .num_items_taken = 0};
  }
}

/// One block a unit and query head, if the unit was cut or has no tiles. Its warps divide the parts
/// and are merged in their order.
__global__ void __launch_bounds__(kMergeThreads)
    merge_parts_kernel(const __grid_constant__ DecodeParams params) {
  __shared__ float largest_of[kMergeWarps];
  __shared__ float totals[kMergeWarps];
  __shared__ float sums[kMergeWarps][kMaxPerLane * kWarpThreads];
  admit_next();
  wait_for_previous();
  const std::uint32_t heads_per_unit = widest_unit(params);
  const std::int64_t unit_idx = blockIdx.x / heads_per_unit;
  const auto head = static_cast<std::int32_t>(blockIdx.x % heads_per_unit);
  const Unit unit = unit_at(params, unit_idx);
  const AttentionSegment segment = *unit.segment;
  if (head >= unit.num_heads || segment.row_end - segment.row_begin != 1) return;
  const std::int32_t dim = params.open.head_dim;
  const std::int64_t at =
      std::int64_t{segment.row_begin} * params.num_heads + unit.first_head + head;
  const std::int64_t begin = params.first_tiles[unit_idx];
  const std::int64_t end = params.first_tiles[unit_idx + 1];
  if (begin == end) {
    for (auto d = static_cast<std::int32_t>(threadIdx.x); d < dim; d += kMergeThreads) {
      params.o[at * dim + d] = 0.0f;
    }
    if (threadIdx.x == 0) params.lse[at] = -INFINITY;
    return;
  }
  const std::int64_t per_block = tiles_per_block(params);
  const std::int64_t first_block = begin / per_block;
  const std::int64_t last_block = (end - 1) / per_block;
  if (first_block == last_block) return;

  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  float largest = -INFINITY;
  float total = 0.0f;
  float sum[kMaxPerLane] = {};
  for (std::int64_t b = first_block + warp_idx; b <= last_block; b += kMergeWarps) {
    const float* part = part_of(params, b, b * per_block > begin);
    const float lse = part[std::int64_t{kHeadsPerUnit} * dim + head];
    const float* o = part + std::int64_t{head} * dim;
    float values[kMaxPerLane];
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i) {
      const int d = i * kWarpThreads + lane;
      values[i] = d < dim ? o[d] : 0.0f;
    }
    if (lse == -INFINITY) continue;
    const float now = fmaxf(largest, lse);
    const float shrink = exp2f(largest - now);
    const float weight = exp2f(lse - now);
    total = total * shrink + weight;
    largest = now;
#pragma unroll
    for (int i = 0; i < kMaxPerLane; ++i) sum[i] = sum[i] * shrink + weight * values[i];
  }
#pragma unroll
  for (int i = 0; i < kMaxPerLane; ++i) sums[warp_idx][i * kWarpThreads + lane] = sum[i];
  if (lane == 0) {
    largest_of[warp_idx] = largest;
    totals[warp_idx] = total;
  }
  __syncthreads();
  float overall = -INFINITY;
  for (int w = 0; w < kMergeWarps; ++w) overall = fmaxf(overall, largest_of[w]);
  float weights[kMergeWarps];
  total = 0.0f;
#pragma unroll
  for (int w = 0; w < kMergeWarps; ++w) {
    weights[w] = largest_of[w] == -INFINITY ? 0.0f : exp2f(largest_of[w] - overall);
    total += weights[w] * totals[w];
  }
  for (auto d = static_cast<std::int32_t>(threadIdx.x); d < dim; d += kMergeThreads) {
    float value = 0.0f;
#pragma unroll
    for (int w = 0; w < kMergeWarps; ++w) value += weights[w] * sums[w][d];
    params.o[at * dim + d] = total == 0.0f ? 0.0f : value / total;
  }
  if (threadIdx.x == 0) {
    constexpr float kLn2 = 0.693147180559945f;
    params.lse[at] = total == 0.0f ? -INFINITY : (overall + log2f(total)) * kLn2;
  }
}

}  // namespace

void count_tiles(CudaContext& context, const DecodeParams& params) {
  pikv::cuda::send_uploads(context);
  count_tiles_kernel<<<1, kCountThreads, 0, context.stream.get()>>>(params);
  check_launch("attention: count_tiles");
}

void merge_parts(CudaContext& context, const DecodeParams& params) {
  launch_early(context, merge_parts_kernel,
               static_cast<unsigned>(params.num_units) * widest_unit(params), kMergeThreads, 0,
               params);
  check_launch("attention: merge_parts");
}

}  // namespace pikv::kernels::cuda
