// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cub/block/block_scan.cuh>

#include "kernels/common/error.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_order.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kFewThreads = 256;
constexpr int kManyThreads = kMaxExperts;
constexpr std::int32_t kMostOfFew = 4096;  // pairs

struct OrderParams {
  const std::int32_t* __restrict__ experts;  // [num_pairs]
  const ExpertMatrices* __restrict__ table;  // [num_experts]
  std::int32_t num_experts;
  std::int32_t num_pairs;
  std::int32_t group_rows;
  ExpertOrder order;
};

/// Pairs, and the groups that they make up.
struct Count {
  std::int32_t pairs;
  std::int32_t groups;

  friend __device__ Count operator+(const Count& a, const Count& b) {
    return {a.pairs + b.pairs, a.groups + b.groups};
  }
};

/// A thread an expert.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) order_kernel(const OrderParams params) {
  using Scan = cub::BlockScan<Count, kThreads>;
  __shared__ typename Scan::TempStorage scan_room;
  __shared__ std::int32_t next[kThreads];
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  const bool here = thread < params.num_experts && is_here(params.table, thread);
  next[thread] = 0;
  __syncthreads();
  wait_for_previous();
#pragma unroll 8
  for (std::int32_t i = thread; i < params.num_pairs; i += kThreads) {
    atomicAdd(&next[params.experts[i]], 1);
  }
  __syncthreads();
  const std::int32_t num_pairs = here ? next[thread] : 0;
  const Count mine{num_pairs, (num_pairs + params.group_rows - 1) / params.group_rows};
  Count end;
  Scan(scan_room).InclusiveScan(mine, end, [](const Count& a, const Count& b) { return a + b; });
  constexpr std::int32_t kNowhere = -1 << 30;  // stays below zero, whatever is added
  next[thread] = here ? end.pairs - num_pairs : kNowhere;
  if (thread == kThreads - 1) {
    *params.order.num_groups = end.groups;
    params.order.num_taken[0] = params.order.num_taken[1] = 0;
  }
  __syncthreads();
#pragma unroll 8
  for (std::int32_t i = thread; i < params.num_pairs; i += kThreads) {
    const std::int32_t place = atomicAdd(&next[params.experts[i]], 1);
    if (place >= 0) params.order.pairs[place] = i;
  }
  for (std::int32_t g = 0; g < mine.groups; ++g) {
    const std::int32_t begin = end.pairs - num_pairs + g * params.group_rows;
    params.order.groups[end.groups - mine.groups + g] = {thread, begin,
                                                         min(begin + params.group_rows, end.pairs)};
  }
}

}  // namespace

void order_experts(Exec& exec, const ExpertsArgs& args, std::int32_t group_rows) {
  const OrderParams params{.experts = args.experts.data,
                           .table = args.table.data,
                           .num_experts = static_cast<std::int32_t>(args.table.size()),
                           .num_pairs = static_cast<std::int32_t>(args.experts.size()),
                           .group_rows = group_rows,
                           .order = order_in(args)};
  const bool few = params.num_experts <= kFewThreads && params.num_pairs <= kMostOfFew;
  launch_early(exec.cuda_context(), few ? order_kernel<kFewThreads> : order_kernel<kManyThreads>, 1,
               few ? kFewThreads : kManyThreads, 0, params);
}

}  // namespace pikv::kernels::cuda
