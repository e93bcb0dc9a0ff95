// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Boxes of 16-bit elements that the copy engine of Hopper brings to shared memory: rows of 128
// bytes, each as far from the last as the map says, from any address of GPU memory that is a
// multiple of 16. They arrive swizzled (wgmma.cuh). A map names no memory of its own: it stands for
// rows and, in two further dimensions, all addresses in steps of 16 bytes. For sm_90a.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

namespace pikv::kernels::cuda {

/// Elements of a row of a box.
inline constexpr int kBoxColumns = 64;

/// Where a map's addresses begin: not at null, which stands for no address.
inline constexpr std::uint64_t kFirstBoxAddress = 16;
inline constexpr std::uint64_t kBoxSteps = std::uint64_t{1} << 31;  // in the dimension of steps

/// The map of boxes of num_rows rows (at most 256), `row_bytes` (a multiple of 16) apart. False
/// where the driver makes none.
[[nodiscard]] bool make_box_map(std::int32_t num_rows, std::int64_t row_bytes, CUtensorMap& map);

/// Of one thread: begins to copy the box at `from`, 16-byte aligned, to `to`, a multiple of 1024.
/// Its bytes count at the barrier.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map,
                                         const std::byte* from, std::uint32_t barrier) {
  const std::uint64_t steps = (reinterpret_cast<std::uint64_t>(from) - kFirstBoxAddress) / 16;
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %2, %3, %4}], [%5];" ::"r"(to),
      "l"(&map), "r"(0), "r"(static_cast<std::uint32_t>(steps % kBoxSteps)),
      "r"(static_cast<std::uint32_t>(steps / kBoxSteps)), "r"(barrier)
      : "memory");
}

}  // namespace pikv::kernels::cuda
