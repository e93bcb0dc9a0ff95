// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include "kernels/cuda/boxes.hpp"

namespace pikv::kernels::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, or null: nothing is linked with the driver.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  constexpr unsigned kVersion = 12000;  // of CUDA, that the function came with
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kVersion,
                                       cudaEnableDefault, &result) != cudaSuccess ||
      result != cudaDriverEntryPointSuccess) {
    static_cast<void>(cudaGetLastError());  // else the next launch check would report it
    return nullptr;
  }
  return reinterpret_cast<Encode>(function);
}

}  // namespace

bool make_box_map(std::int32_t num_rows, std::int64_t row_bytes, CUtensorMap& map) {
  static const Encode encode = find_encode();
  if (encode == nullptr || num_rows > 256) return false;
  constexpr int kAddressBits = 49;  // of GPUs
  const auto rows = static_cast<std::uint32_t>(num_rows);
  const cuuint64_t sizes[] = {kBoxColumns, rows, kBoxSteps,
                              (std::uint64_t{1} << kAddressBits) / kBoxStepBytes / kBoxSteps};
  const cuuint64_t strides[] = {static_cast<std::uint64_t>(row_bytes), kBoxStepBytes,
                                kBoxStepBytes * kBoxSteps};
  const cuuint32_t box[] = {kBoxColumns, rows, 1, 1};
  const cuuint32_t every[] = {1, 1, 1, 1};
  return encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, reinterpret_cast<void*>(kFirstBoxAddress),
                sizes, strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace pikv::kernels::cuda
