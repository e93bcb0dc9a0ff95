// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A warpgroup of grouped_wgmma.cu that multiplies, 64 rows of each item (grouped_shared.cuh), and
// writes what comes of it (grouped_results.cuh).
#pragma once

#include <cstdint>

#include "kernels/cuda/grouped_results.cuh"
#include "kernels/cuda/grouped_shared.cuh"

namespace pikv::kernels::cuda {

template <bool kIsGateUp, int kParts>
class SlabConsumer {
 public:
  __device__ SlabConsumer(const GroupedProduct& product, SlabShared& shared, std::uint32_t memory,
                          int group)
      : product_(product), shared_(shared), memory_(memory), group_(group) {}

  __device__ void run() {
    const int num_slabs = kParts * static_cast<int>(product_.num_inputs / kSlabInputs);
    while (true) {
      wait();
      const ProductItem item = shared_.items[ring_.stage];
      if (item.num_rows() == 0) return;
      if (item.num_rows() <= group_ * kGroupRows) {
        pass(num_slabs);
        continue;
      }
      ResultRows<kIsGateUp, kParts> results(product_, item, group_ * kGroupRows);
      ProductSums sums;
      multiply(num_slabs, sums);
      results.write(sums);
    }
  }

 private:
  /// Slabs that the other warpgroup needs alone. Each is waited for: else a stage would be free
  /// before it is full.
  __device__ void pass(int num_slabs) {
    for (int slab = 0; slab < num_slabs; ++slab) {
      wait();
      ring_.advance();
      release();
    }
  }

  __device__ void multiply(int num_slabs, ProductSums& sums) {
    start(sums, 0);
    for (int slab = 1; slab < num_slabs; ++slab) {
      start(sums, 1);
      wait_for_products<1>();
      release();  // of the slab before
    }
    wait_for_products<0>();
    hold(sums);
    release();
  }

  /// Starts the products of the next slab; the first of an item does not add.
  __device__ __forceinline__ void start(ProductSums& sums, int adds) {
    wait();
    if constexpr (kIsGateUp) show_tensor_cores();  // what threads copied
    const std::uint32_t stage = memory_ + static_cast<std::uint32_t>(ring_.stage) * kSlabBytes;
    const Operand rows =
        operand_at(stage + static_cast<std::uint32_t>(group_) * kGroupRows * kBlockRowBytes, 0);
    const Operand weights = operand_at(stage + kSlabRowsBytes, 0);
    begin_products();
#pragma unroll
    for (int i = 0; i < kSlabInputs / 16; ++i) {
      multiply_by_rows(sums, rows + i * kNextColumns, weights + i * kNextColumns, i > 0 ? 1 : adds);
    }
    commit_products();
    ring_.advance();
  }

  __device__ __forceinline__ void wait() {
    wait_for_phase(shared_address(&shared_.full[ring_.stage]), ring_.parity);
  }
  /// The stage that was waited for the longest ago and is not yet released.
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (threadIdx.x % kWarpThreads == 0) {
      arrive(shared_address(&shared_.free[released_.stage]));
    }
    released_.advance();
  }

  const GroupedProduct& product_;
  SlabShared& shared_;
  std::uint32_t memory_;
  int group_;
  RingPlace<kSlabStages> ring_;
  RingPlace<kSlabStages> released_;
};

}  // namespace pikv::kernels::cuda
