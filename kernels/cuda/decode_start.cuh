// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a kernel of decode attention is configured and launched.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/decode_kernel.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {

/// Zero where the GPU has too little shared memory. Asked once a GPU and thread: it takes the host
/// longer than the launch.
template <class Kernel>
[[nodiscard]] int blocks_of_multiprocessor(const CudaContext& context) {
  thread_local int device_idx = -1;
  thread_local int num_blocks = 0;
  if (device_idx == context.device_idx) return num_blocks;
  const auto kernel = decode_kernel<Kernel>;
  num_blocks = 0;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(Kernel::kSharedBytes)) != cudaSuccess ||
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                           cudaSharedmemCarveoutMaxShared) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // else the next launch check would report it again
  } else {
    pikv::cuda::check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                          &num_blocks, kernel, Kernel::kThreads, Kernel::kSharedBytes),
                      "attention");
  }
  device_idx = context.device_idx;
  return num_blocks;
}

/// `Tiles`: of the sealed pages.
template <class Tiles>
[[nodiscard]] bool start_decode(DecodeParams& params, CudaContext& context) {
  using Kernel = DecodeKernel<Tiles>;
  const auto kernel = decode_kernel<Kernel>;
  const int blocks_per_sm = blocks_of_multiprocessor<Kernel>(context);
  const std::int64_t part_bytes = 2 * PartShape{Tiles::kDim}.floats() * std::int64_t{sizeof(float)};
  params.num_blocks =
      static_cast<std::int32_t>(std::min({std::int64_t{context.num_multiprocessors} * blocks_per_sm,
                                          params.part_bytes / part_bytes, kMaxDecodeBlocks}));
  if (params.num_blocks == 0) return false;
  params.min_block_tiles = kDecodeWarps;
  if (params.places != nullptr) count_tiles(context, params);
  launch_early(context, kernel, static_cast<unsigned>(params.num_blocks), Kernel::kThreads,
               Kernel::kSharedBytes, params);
  check_launch("attention");
  return true;
}

/// Whether packed operands have the scales that their kernels read: keys along channels, values
/// along slots in groups of whole 64 channels; both the same elements.
[[nodiscard]] inline bool has_default_scales(const DecodeParams& params) {
  const OperandShape& keys = params.sealed.keys;
  const OperandShape& values = params.sealed.values;
  return keys.element == values.element && keys.axis == ScaleAxis::kPerChannel &&
         values.axis == ScaleAxis::kPerSlot &&
         (values.group % 64 == 0 || values.group >= values.channels);
}

/// Calls f.template operator()<kDim>() with the head size, or returns false.
template <class F>
[[nodiscard]] bool with_head_dim(std::int32_t head_dim, const F& f) {
  switch (head_dim) {
    case 64:
      return f.template operator()<64>();
    case 128:
      return f.template operator()<128>();
    case 256:
      return f.template operator()<256>();
    default:
      return false;
  }
}

/// Calls f.template operator()<kElement, kDim>() for packed pages with the default scales, or
/// returns false.
template <class F>
[[nodiscard]] bool with_packed_pages(const DecodeParams& params, const F& f) {
  if (!has_default_scales(params)) return false;
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    switch (params.sealed.keys.element) {
      case Element::kE4m3:
        return f.template operator()<Element::kE4m3, kDim>();
      case Element::kE5m2:
        return f.template operator()<Element::kE5m2, kDim>();
      case Element::kInt8:
        return f.template operator()<Element::kInt8, kDim>();
      case Element::kInt4:
        return f.template operator()<Element::kInt4, kDim>();
      case Element::kInt2:
        return f.template operator()<Element::kInt2, kDim>();
      default:
        return false;
    }
  });
}

}  // namespace pikv::kernels::cuda
