// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a kernel asks the copy engine for a box (boxes.hpp). It arrives swizzled, as wgmma.cuh wants
// it. For sm_90a.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/boxes.hpp"

namespace pikv::kernels::cuda {

/// An address in the two dimensions that stand for all of them.
struct BoxPlace {
  std::uint32_t step;
  std::uint32_t leap;
};
__device__ __forceinline__ BoxPlace box_place(const std::byte* from) {
  const std::uint64_t step =
      (reinterpret_cast<std::uint64_t>(from) - kFirstBoxAddress) / kBoxStepBytes;
  return {static_cast<std::uint32_t>(step % kBoxSteps),
          static_cast<std::uint32_t>(step / kBoxSteps)};
}

/// Of one thread: begins to copy the box at `from`, 16-byte aligned, to `to`, a multiple of 1024.
/// Its bytes count at the barrier, which expects them (barriers.cuh).
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map,
                                         const std::byte* from, std::uint32_t barrier) {
  const BoxPlace place = box_place(from);
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %2, %3, %4}], [%5];" ::"r"(to),
      "l"(&map), "r"(0), "r"(place.step), "r"(place.leap), "r"(barrier)
      : "memory");
}

/// The same of a dealt box.
__device__ __forceinline__ void copy_dealt_box(std::uint32_t to, const CUtensorMap& map,
                                               const std::byte* from, std::uint32_t barrier) {
  const BoxPlace place = box_place(from);
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %2, %2, %3, %4}], [%5];" ::"r"(to),
      "l"(&map), "r"(0), "r"(place.step), "r"(place.leap), "r"(barrier)
      : "memory");
}

/// The same of a map of one matrix, from its column `column` and its row `row` on.
__device__ __forceinline__ void copy_matrix_box(std::uint32_t to, const CUtensorMap& map,
                                                std::int32_t column, std::int32_t row,
                                                std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
      "l"(&map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}

}  // namespace pikv::kernels::cuda
