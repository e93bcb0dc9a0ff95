// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Two launches: many blocks a row, each of which leaves its best in the workspace; then one warp a
// row over those. A comparison is one of 64-bit keys that are all different, so the result depends
// on no order.
#include "kernels/argmax.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

using Key = unsigned long long;

constexpr int kBlockThreads = 256;
constexpr int kBlockWarps = kBlockThreads / kWarpThreads;
// A row of 150,000 logits is then 75 blocks, about what fills a GPU with the reads of one row.
constexpr int kPerThread = 8;
constexpr std::int64_t kPartElements = std::int64_t{kBlockThreads} * kPerThread;

struct PartsParams {
  const float* __restrict__ x;  // [rows, V]
  Key* __restrict__ parts;      // [rows, num_parts], out
  std::int64_t num_rows;
  std::int64_t row_size;  // V < 2^31
  std::int64_t num_parts;
};

struct RowsParams {
  const Key* __restrict__ parts;  // [rows, num_parts]
  std::int32_t* __restrict__ largest;
  std::int64_t num_rows;
  std::int64_t num_parts;
};

/// Above: the order of floats as one of unsigned integers; below: the complement of the subscript,
/// so that of equals the first is the largest. NaN stands at the foot, but on the first place at
/// the head, as std::max_element has it. No key is 0: an infinity maps above that.
__device__ Key key_of(float x, std::int64_t idx) {
  if (isnan(x)) x = idx == 0 ? INFINITY : -INFINITY;
  if (x == 0.0f) x = 0.0f;  // of either sign
  const std::uint32_t bits = __float_as_uint(x);
  const std::uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Key>(ordered) << 32 | (0xffffffffu - static_cast<std::uint32_t>(idx));
}

/// The same on every lane.
__device__ Key warp_largest(Key key) {
  for (int step = kWarpThreads / 2; step > 0; step /= 2) {
    const Key other = __shfl_xor_sync(kWholeWarp, key, step);
    key = other > key ? other : key;
  }
  return key;
}

__global__ void __launch_bounds__(kBlockThreads) parts_kernel(const PartsParams params) {
  __shared__ Key of_warps[kBlockWarps];
  const int thread = static_cast<int>(threadIdx.x);
  wait_for_previous();
  for (std::int64_t part = blockIdx.x; part < params.num_rows * params.num_parts;
       part += gridDim.x) {
    const float* row = params.x + part / params.num_parts * params.row_size;
    const std::int64_t begin = part % params.num_parts * kPartElements;
    Key best = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const std::int64_t idx = begin + i * kBlockThreads + thread;
      const Key key = idx < params.row_size ? key_of(row[idx], idx) : 0;
      best = key > best ? key : best;
    }
    best = warp_largest(best);
    if (thread % kWarpThreads == 0) of_warps[thread / kWarpThreads] = best;
    __syncthreads();
    if (thread < kWarpThreads) {
      best = warp_largest(thread < kBlockWarps ? of_warps[thread] : 0);
      if (thread == 0) params.parts[part] = best;
    }
    __syncthreads();  // before the next part overwrites of_warps
  }
}

__global__ void __launch_bounds__(kBlockThreads) rows_kernel(const RowsParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  wait_for_previous();
  for (std::int64_t t = std::int64_t{blockIdx.x} * kBlockWarps + warp_idx; t < params.num_rows;
       t += std::int64_t{gridDim.x} * kBlockWarps) {
    const Key* parts = params.parts + t * params.num_parts;
    Key best = 0;
    for (std::int64_t i = lane; i < params.num_parts; i += kWarpThreads) {
      best = parts[i] > best ? parts[i] : best;
    }
    best = warp_largest(best);
    if (lane == 0) {
      params.largest[t] = static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(best));
    }
  }
}

}  // namespace

void argmax(Exec& exec, const ArgmaxArgs& args) {
  CudaContext& context = exec.cuda_context();
  const std::int64_t row_size = args.x.extent(1);
  const std::int64_t num_parts = (row_size + kPartElements - 1) / kPartElements;
  auto* parts = static_cast<Key*>(context.workspace.get());
  // As many rows at once as the workspace has room for: at least 4, of the longest ones.
  constexpr auto kWorkspaceKeys = pikv::cuda::kWorkspaceBytes / std::int64_t{sizeof(Key)};
  const std::int64_t rows_at_once = kWorkspaceKeys / num_parts;
  for (std::int64_t begin = 0; begin < args.x.extent(0); begin += rows_at_once) {
    const std::int64_t num_rows = std::min(rows_at_once, args.x.extent(0) - begin);
    launch_early(context, parts_kernel, num_blocks(num_rows * num_parts, 1), kBlockThreads, 0,
                 PartsParams{.x = args.x.data + begin * row_size,
                             .parts = parts,
                             .num_rows = num_rows,
                             .row_size = row_size,
                             .num_parts = num_parts});
    launch_early(context, rows_kernel, num_blocks(num_rows, kBlockWarps), kBlockThreads, 0,
                 RowsParams{.parts = parts,
                            .largest = args.largest.data + begin,
                            .num_rows = num_rows,
                            .num_parts = num_parts});
  }
  check_launch("argmax");
}

}  // namespace pikv::kernels::cuda
