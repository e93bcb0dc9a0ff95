// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/common/error.hpp"
#include "kernels/cuda/boxes.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr std::int32_t kMaxBoxRows = 256;
// Of the second of the dimensions that stand for addresses.
constexpr std::uint64_t kBoxLeapBytes = kBoxStepBytes * kBoxSteps;
constexpr int kAddressBits = 49;  // of GPUs
constexpr std::uint64_t kBoxLeaps = (std::uint64_t{1} << kAddressBits) / kBoxLeapBytes;

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

/// Of swizzled boxes; `sizes` and `box` begin with columns and rows. `ahead`: how much of memory
/// comes to the second-level cache together.
template <int kDims>
bool encode_map(const void* first, const cuuint64_t (&sizes)[kDims],
                const cuuint64_t (&strides)[kDims - 1], const cuuint32_t (&box)[kDims],
                CUtensorMapL2promotion ahead, CUtensorMap& map) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return false;
  cuuint32_t every[kDims];
  std::fill_n(every, kDims, 1u);
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, kDims, const_cast<void*>(first), sizes, strides,
             box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, ahead,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw CudaError(concat("boxes: the driver refuses a map of ", kDims, " dimensions, error ",
                           static_cast<int>(result)));
  }
  return true;
}

bool is_stride(std::int64_t bytes) { return bytes % static_cast<std::int64_t>(kBoxStepBytes) == 0; }

}  // namespace

bool make_box_map(std::int32_t num_rows, std::int64_t row_bytes, CUtensorMap& map) {
  const auto rows = static_cast<std::uint32_t>(num_rows);
  const auto stride = static_cast<std::uint64_t>(row_bytes);
  return num_rows <= kMaxBoxRows && is_stride(row_bytes) &&
         encode_map<4>(reinterpret_cast<const void*>(kFirstBoxAddress),
                       {kBoxColumns, rows, kBoxSteps, kBoxLeaps},
                       {stride, kBoxStepBytes, kBoxLeapBytes}, {kBoxColumns, rows, 1, 1},
                       CU_TENSOR_MAP_L2_PROMOTION_L2_128B, map);
}

bool make_dealt_box_map(std::int64_t row_bytes, CUtensorMap& map) {
  constexpr int kStacks = 4;
  constexpr int kStackRows = kDealtRows / kStacks;
  const auto stride = static_cast<std::uint64_t>(row_bytes);
  return is_stride(row_bytes) &&
         encode_map<5>(reinterpret_cast<const void*>(kFirstBoxAddress),
                       {kBoxColumns, kStackRows, kStacks, kBoxSteps, kBoxLeaps},
                       {kStacks * stride, stride, kBoxStepBytes, kBoxLeapBytes},
                       {kBoxColumns, kStackRows, kStacks, 1, 1}, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                       map);
}

bool make_matrix_map(const void* matrix, std::int64_t num_rows, std::int64_t num_columns,
                     std::int32_t num_box_rows, CUtensorMap& map) {
  constexpr std::uint64_t kElementBytes = 2;
  const auto columns = static_cast<std::uint64_t>(num_columns);
  return num_box_rows <= kMaxBoxRows &&
         encode_map<2>(matrix, {columns, static_cast<std::uint64_t>(num_rows)},
                       {columns * kElementBytes},
                       {kBoxColumns, static_cast<std::uint32_t>(num_box_rows)},
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B, map);
}

}  // namespace pikv::kernels::cuda
