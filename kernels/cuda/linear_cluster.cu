// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_cluster.cuh"
#include "kernels/cuda/linear_cluster_block.cuh"

namespace pikv::kernels::cuda {
namespace {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900  // which has none, and an empty kernel
#define PIKV_IN_CLUSTERS
#else
#define PIKV_IN_CLUSTERS __cluster_dims__(kClusterBlocks, 1, 1)
#endif

/// Empty except for sm_90a. Where it is not, it has static shared memory.
template <int kBlocks>
__global__ void PIKV_IN_CLUSTERS __launch_bounds__(kClusterThreads, 1)
    cluster_kernel(const __grid_constant__ ClusterParams params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ std::byte dynamic_memory[];
  __shared__ ClusterShared shared;
  std::byte* const memory = dynamic_memory + (~shared_address(dynamic_memory) + 1) % 1024;
  ClusterBlock<kBlocks> block(params, shared, memory);
  if (threadIdx.x == 0) block.init_barriers();
  __syncthreads();
  arrive_in_cluster();
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  wait_for_cluster();
  if (warp >= kClusterGroups * kClusterGroupWarps) {
    block.bring(warp - kClusterGroups * kClusterGroupWarps);  // what no launch before writes
  } else {
    wait_for_previous();
    block.take_rows();
    wait_among<kClusterGroups * kGroupThreads>(1 + kClusterGroups);
    block.multiply(warp / kClusterGroupWarps);
  }
  __syncwarp();
  arrive_in_cluster();  // others read the sums of this block until then
  wait_for_cluster();
#endif
}

#undef PIKV_IN_CLUSTERS

/// How many clusters the GPU holds at once; 0 where it is of another kind. Asked once a GPU and
/// thread: that takes the host longer than the launch.
template <int kBlocks>
[[nodiscard]] int max_active_clusters(const CudaContext& context) {
  thread_local int device_idx = -1;
  thread_local int num_clusters = 0;
  if (device_idx == context.device_idx) return num_clusters;
  num_clusters = 0;
  if (may_launch(cluster_kernel<kBlocks>, kClusterSharedBytes)) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(kClusterBlocks);
    config.blockDim = dim3(kClusterThreads);
    config.dynamicSmemBytes = kClusterSharedBytes;
    pikv::cuda::check(
        cudaOccupancyMaxActiveClusters(&num_clusters, cluster_kernel<kBlocks>, &config), "linear");
  }
  device_idx = context.device_idx;
  return num_clusters;
}

template <int kBlocks>
[[nodiscard]] bool launch(Exec& exec, ClusterParams& params) {
  CudaContext& context = exec.cuda_context();
  context.activate();
  const auto max_clusters = static_cast<unsigned>(max_active_clusters<kBlocks>(context));
  if (max_clusters < params.row_groups) return false;
  const unsigned clusters_of_group = std::min(max_clusters / params.row_groups, params.num_units);
  launch_early(context, cluster_kernel<kBlocks>,
               clusters_of_group * params.row_groups * kClusterBlocks, kClusterThreads,
               kClusterSharedBytes, params);
  return true;
}

[[nodiscard]] bool fits(std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  const std::int64_t num_slabs = first.weight.cols / kBlockColumns;
  const std::int64_t blocks_of_rows =
      (std::min<std::int64_t>(first.x.extent(0), kClusterRows) + kFewRowsBlock - 1) / kFewRowsBlock;
  const auto blocks = static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(blocks_of_rows, 1))));
  const std::int64_t slabs_of_block = (num_slabs + kClusterBlocks - 1) / kClusterBlocks;
  return products.size() <= std::size_t{kMaxClusterProducts} && num_slabs >= kClusterBlocks &&
         first.weight.cols % kBlockColumns == 0 &&
         slabs_of_block * blocks <= std::int64_t{kMaxRowSlabs} && lies_at_16_bytes(first.x.data) &&
         std::ranges::all_of(products, [](const LinearArgs& args) {
           return args.weight.dtype == DType::kBf16 && args.weight.rows % kUnitOutputs == 0 &&
                  lies_at_16_bytes(args.weight.data);
         });
}

}  // namespace

bool multiply_few_rows_in_clusters(Exec& exec, std::span<const LinearArgs> products) {
  if (!fits(products)) return false;
  const LinearArgs& first = products.front();
  ClusterParams params{};
  const std::int64_t row_bytes = first.weight.cols * static_cast<std::int64_t>(sizeof(BFloat16));
  if (!make_box_map(kUnitOutputs, row_bytes, params.weight_boxes)) return false;
  for (std::size_t i = 0; i < std::size_t{kMaxClusterProducts}; ++i) {
    params.products[i].first_unit = ~0u;
    if (i >= products.size()) continue;
    const LinearArgs& args = products[i];
    params.products[i] = {.weight = static_cast<const BFloat16*>(args.weight.data),
                          .bias = args.bias,
                          .y = args.y.data,
                          .num_outputs = args.weight.rows,
                          .first_unit = params.num_units};
    params.num_units += static_cast<unsigned>(args.weight.rows / kUnitOutputs);
  }
  params.x = first.x.data;
  params.num_rows = first.x.extent(0);
  params.num_inputs = first.weight.cols;
  params.row_groups = num_blocks(params.num_rows, kClusterRows);
  const std::int64_t rows = std::min<std::int64_t>(params.num_rows, kClusterRows);
  if (rows <= kFewRowsBlock) return launch<1>(exec, params);
  if (rows <= 2 * kFewRowsBlock) return launch<2>(exec, params);
  return launch<4>(exec, params);
}

}  // namespace pikv::kernels::cuda
