// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Boxes of 16-bit elements that the copy engine of Hopper brings to shared memory (boxes.cuh): rows
// of 128 bytes, each as far from the last as a map says, from any address of GPU memory that is a
// multiple of 16. A map names no memory of its own: beside columns and rows it has two dimensions
// that stand for all addresses in steps of 16 bytes, so that pages may lie anywhere. Where what
// lies behind the last row must not be read, a map of one matrix knows where it ends. Of a matrix
// and of dealt boxes, 256 bytes come to the second-level cache together: the next box of the same
// rows will be asked for soon. Throws CudaError where the driver refuses a map: the caller would be
// slow and not know why. Plain C++: the host compiler may include it.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace pikv::kernels::cuda {

/// Elements of a row of a box.
inline constexpr int kBoxColumns = 64;

inline constexpr std::uint64_t kBoxStepBytes = 16;
/// Steps in the first of the two dimensions.
inline constexpr std::uint64_t kBoxSteps = std::uint64_t{1} << 31;
/// Where a map's addresses begin: not at null, which stands for no address.
inline constexpr std::uint64_t kFirstBoxAddress = kBoxStepBytes;

/// The map of boxes of num_rows rows (1 to 256), `row_bytes` (a multiple of 16) apart. False where
/// that is not so, or the driver is older than such maps.
[[nodiscard]] bool make_box_map(std::int32_t num_rows, std::int64_t row_bytes, CUtensorMap& map);

/// Rows of a dealt box: as cards are dealt to four, row 4 u + b comes as row 8 b + u.
inline constexpr int kDealtRows = 32;

/// The same of dealt boxes. So the sums of a lane (wgmma.cuh), where such rows are the columns of a
/// product, are of eight neighbours: column 8 b + 2 t + e is of row 8 t + 4 e + b.
[[nodiscard]] bool make_dealt_box_map(std::int64_t row_bytes, CUtensorMap& map);

/// The map of boxes of num_box_rows rows (1 to 256) of one matrix, [num_rows, num_columns] of
/// 16-bit elements, at a multiple of 16 bytes, num_columns a multiple of 8; outside it are zeros.
/// False where the driver is older than such maps.
[[nodiscard]] bool make_matrix_map(const void* matrix, std::int64_t num_rows,
                                   std::int64_t num_columns, std::int32_t num_box_rows,
                                   CUtensorMap& map);

}  // namespace pikv::kernels::cuda
