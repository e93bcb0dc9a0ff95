// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/common/error.hpp"
#include "kernels/cuda/grouped_consumer.cuh"
#include "kernels/cuda/grouped_producer.cuh"
#include "kernels/cuda/grouped_wgmma.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

// Of a thread. All begin with 168; the three warpgroups have as many together then.
constexpr int kProducerRegisters = 72;
constexpr int kConsumerRegisters = 216;
static_assert(kProducerRegisters + kProductGroups * kConsumerRegisters == 3 * 168);

/// Empty except for sm_90a. Where it is not, it has static shared memory.
template <bool kIsGateUp, int kParts>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    wgmma_kernel(const __grid_constant__ WgmmaProduct params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ char dynamic_memory[];
  __shared__ SlabShared shared;
  const std::uint32_t memory = (shared_address(dynamic_memory) + 1023) / 1024 * 1024;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlabStages; ++i) {
      init_barrier(shared_address(&shared.full[i]), SlabProducer<kIsGateUp>::kArrivals);
      init_barrier(shared_address(&shared.free[i]), kProductWarps);
    }
    show_tensor_cores();  // and the copy engine
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  if (group == 0) {
    give_registers<kProducerRegisters>();
    SlabProducer<kIsGateUp>(params, shared, memory).run();
  } else {
    take_registers<kConsumerRegisters>();
    SlabConsumer<kIsGateUp, kParts>(params.product, shared, memory, group - 1).run();
  }
#endif
}

template <bool kIsGateUp, int kParts>
[[nodiscard]] bool launch(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  const bool fits =
      product.num_inputs % kSlabInputs == 0 && product.num_outputs % kWeightsOfWarp == 0;
  if (!fits) return false;
  CudaContext& context = exec.cuda_context();
  const cudaStream_t stream = stream_of(context);
  WgmmaProduct params{};
  params.product = product;
  const std::int64_t row_bytes = product.num_inputs * static_cast<std::int64_t>(sizeof(BFloat16));
  if (!make_dealt_box_map(row_bytes, params.weight_boxes)) return false;
  for (int p = 0; !kIsGateUp && p < kParts; ++p) {
    if (!make_matrix_map(product.parts[p], product.num_pairs, product.num_inputs, kGroupRows,
                         params.row_boxes[p])) {
      return false;
    }
  }
  const auto kernel = wgmma_kernel<kIsGateUp, kParts>;
  if (!may_launch(kernel, kWgmmaSharedBytes)) return false;
  constexpr std::int64_t kOutputs = kItemOutputs<kIsGateUp>;
  const std::int64_t items = max_tiles * ((product.num_outputs + kOutputs - 1) / kOutputs);
  require(items < std::int64_t{1} << 31, "experts", items, " tiles exceed what a kernel counts");
  const auto blocks =
      static_cast<unsigned>(std::min<std::int64_t>(context.num_multiprocessors, items));
  kernel<<<blocks, kWgmmaThreads, kWgmmaSharedBytes, stream>>>(params);
  check_launch("experts");
  return true;
}

template <bool kIsGateUp>
[[nodiscard]] bool launch(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  return product.num_parts == 1 ? launch<kIsGateUp, 1>(exec, product, max_tiles)
                                : launch<kIsGateUp, kMaxBf16Parts>(exec, product, max_tiles);
}

}  // namespace

bool multiply_gate_up_on_hopper(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  return launch<true>(exec, product, max_tiles);
}

bool multiply_down_on_hopper(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  return launch<false>(exec, product, max_tiles);
}

}  // namespace pikv::kernels::cuda
