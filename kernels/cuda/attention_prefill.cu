// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_consumer.cuh"
#include "kernels/cuda/prefill_producer.cuh"

namespace pikv::kernels::cuda {
namespace {

/// Empty except for sm_90a. Where it is not, it has static shared memory.
template <class Shape>
__global__ void __launch_bounds__(kPrefillThreads, 1)
    prefill_kernel(const __grid_constant__ PrefillParams params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ char dynamic_memory[];
  __shared__ PrefillShared<Shape> shared;
  wait_for_previous();
  if (params.left->exist == 0) return;
  const std::uint32_t memory = (shared_address(dynamic_memory) + 1023) / 1024 * 1024;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::kQueryStages; ++i) {
      init_barrier(shared_address(&shared.queries_full[i]), kGroupThreads);
      init_barrier(shared_address(&shared.queries_free[i]), kComputeWarps);
    }
    for (int i = 0; i < Shape::kKeyStages; ++i) {
      init_barrier(shared_address(&shared.keys_full[i]), kGroupThreads + 1);
      init_barrier(shared_address(&shared.keys_free[i]), kComputeWarps);
    }
    for (int i = 0; i < Shape::kValueStages; ++i) {
      init_barrier(shared_address(&shared.values_full[i]), kGroupThreads + 1);
      init_barrier(shared_address(&shared.values_free[i]), kComputeWarps);
    }
    show_tensor_cores();  // and the copy engine
  }
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  if (group == 0) {
    give_registers<kProducerRegisters>();
    PrefillProducer<Shape>(params, shared, memory).run();
  } else {
    take_registers<kConsumerRegisters>();
    PrefillConsumer<Shape>(params, shared, memory, group - 1).run();
  }
#endif
}

/// False where the kernel is empty or the GPU has too little shared memory.
template <class Shape>
[[nodiscard]] bool start_prefill(const PrefillParams& params, CudaContext& context,
                                 std::int64_t num_lines) {
  const auto kernel = prefill_kernel<Shape>;
  if (!may_launch(kernel, Shape::kSharedBytes)) return false;
  const std::int64_t most_items =
      (num_lines / kItemLines + params.num_segments) * std::int64_t{params.num_kv_heads};
  const auto blocks =
      static_cast<unsigned>(std::min<std::int64_t>(context.num_multiprocessors, most_items));
  if (params.skips_single_rows) {
    launch_early(context, kernel, blocks, kPrefillThreads, Shape::kSharedBytes, params);
  } else {
    // Nobody has counted segments: let there be long ones (any number but 0). No item is taken.
    const cudaStream_t stream = stream_of(context);
    auto* exist = &params.left->exist;
    auto* taken = &params.left->num_items_taken;
    pikv::cuda::check(cudaMemsetAsync(exist, 1, sizeof(*exist), stream), "attention");
    pikv::cuda::check(cudaMemsetAsync(taken, 0, sizeof(*taken), stream), "attention");
    kernel<<<blocks, kPrefillThreads, Shape::kSharedBytes, stream>>>(params);
  }
  check_launch("attention");
  return true;
}

/// Whether blocks may come in boxes; makes their maps.
[[nodiscard]] bool make_box_maps(PrefillParams& params, std::int32_t head_dim) {
  constexpr std::int64_t kElementBytes = sizeof(BFloat16);
  return params.num_slots % kBoxColumns == 0 &&
         make_box_map(head_dim, params.num_slots * kElementBytes, params.key_boxes) &&
         make_box_map(kBoxColumns, head_dim * kElementBytes, params.value_boxes);
}

template <class T, int kHeadDim>
[[nodiscard]] bool start_prefill(PrefillParams& params, CudaContext& context,
                                 std::int64_t num_lines) {
  return make_box_maps(params, kHeadDim)
             ? start_prefill<PrefillShape<T, kHeadDim, kBoxColumns>>(params, context, num_lines)
             : start_prefill<PrefillShape<T, kHeadDim, kLanes>>(params, context, num_lines);
}

template <class T>
[[nodiscard]] bool start_prefill(PrefillParams& params, CudaContext& context,
                                 std::int64_t num_lines, std::int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return start_prefill<T, 64>(params, context, num_lines);
    case 128:
      return start_prefill<T, 128>(params, context, num_lines);
    case 256:
      return start_prefill<T, 256>(params, context, num_lines);
    default:
      return false;
  }
}

PlainPage plain_page(const PageLayout& layout) {
  return {.value_bytes = static_cast<std::int64_t>(layout.value_offset()),
          .position_bytes = static_cast<std::int64_t>(layout.position_offset())};
}

}  // namespace

bool attend_runs(Exec& exec, const AttentionArgs& args, LongSegments* left) {
  if (exec.product_dtype() != DType::kBf16 || args.sealed_layouts.size() != 1) return false;
  const PageLayout& sealed = args.sealed_layouts.data[0];
  // The largest score is looked for before it is scaled.
  if (!sealed.plain() || !(args.scale > 0.0f) || args.segments.extent(0) == 0) return false;

  exec.cuda_context().activate();
  CudaContext& context = exec.cuda_context();
  const auto num_heads = static_cast<std::int32_t>(args.q.extent(1));
  // Where nothing was left, nothing else uses the workspace.
  auto* workspace = static_cast<LongSegments*>(context.workspace.get());
  PrefillParams params{.q = args.q.data,
                       .positions = args.positions.data,
                       .segments = args.segments.data,
                       .streams = args.streams.data,
                       .o = args.o.data,
                       .lse = args.lse.data,
                       .left = left != nullptr ? left : workspace,
                       .skips_single_rows = left != nullptr,
                       .num_segments = args.segments.extent(0),
                       .num_heads = num_heads,
                       .num_kv_heads = args.num_kv_heads,
                       .group_size = num_heads / args.num_kv_heads,
                       .num_slots = sealed.num_slots,
                       .window = args.window ? *args.window : kUnbounded,
                       .scale = args.scale,
                       .sealed = plain_page(sealed),
                       .open = plain_page(args.open_layout),
                       .key_boxes = {},
                       .value_boxes = {}};
  const std::int64_t num_lines = args.q.extent(0) * params.group_size;
  switch (sealed.dtype()) {
    case DType::kBf16:
      return start_prefill<BFloat16>(params, context, num_lines, sealed.head_dim);
    case DType::kF16:
      return start_prefill<Half>(params, context, num_lines, sealed.head_dim);
    default:
      return false;
  }
}

}  // namespace pikv::kernels::cuda
