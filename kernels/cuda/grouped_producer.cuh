// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The warpgroup of grouped_wgmma.cu that brings slabs (grouped_shared.cuh). Its first thread asks
// the copy engine for boxes of weights, and of the second product for boxes of rows; rows of the
// first product all threads copy, a piece of every 16th row each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/boxes.cuh"
#include "kernels/cuda/grouped_shared.cuh"

namespace pikv::kernels::cuda {

template <bool kIsGateUp>
class SlabProducer {
  static constexpr int kRowsAtOnce = kGroupThreads / kBlockPieces;
  static constexpr int kRowCopies = kTileRows / kRowsAtOnce;
  static_assert(kRowsAtOnce % 8 == 0, "pieces of a thread are swizzled alike");
  static constexpr int kMatrices = kIsGateUp ? 2 : 1;
  static constexpr int kMatrixBoxes = kSlabWeights / kMatrices / kBoxRows;

 public:
  __device__ SlabProducer(const WgmmaProduct& params, SlabBarriers& barriers, std::uint32_t memory)
      : params_(params),
        product_(params.product),
        barriers_(barriers),
        memory_(memory),
        thread_(static_cast<int>(threadIdx.x) % kGroupThreads) {}

  __device__ void run() {
    if (!kIsGateUp && thread_ >= kWarpThreads) return;  // boxes need one thread
    ItemWalk<kIsGateUp> items(product_);
    for (ProductItem item = items.take(); item.num_rows() > 0; item = items.take()) {
      begin(item);
      for (int part = 0; part < product_.num_parts; ++part) {
        for (std::int32_t input = 0; input < product_.num_inputs; input += kSlabInputs) {
          bring(item, part, input);
        }
      }
    }
  }

 private:
  __device__ void begin(const ProductItem& item) {
    const ExpertMatrices& expert = product_.table[item.tile.expert];
    const void* matrices[] = {kIsGateUp ? expert.gate : expert.down, expert.up};
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
      weights_[m] = static_cast<const std::byte*>(matrices[m]) + item.first_output * row_bytes();
    }
    num_boxes_ =
        min(static_cast<int>(product_.num_outputs - item.first_output) / kBoxRows, kMatrixBoxes);
    if constexpr (kIsGateUp) {
      const int row = thread_ / kBlockPieces;
      num_copies_ = (item.num_rows() - row + kRowsAtOnce - 1) / kRowsAtOnce;  // or more, or less
#pragma unroll
      for (int i = 0; i < kRowCopies; ++i) {
        if (i >= num_copies_) break;
        const std::int32_t pair = product_.order.pairs[item.tile.begin + row + i * kRowsAtOnce];
        rows_[i] = static_cast<std::uint32_t>(pair / product_.num_chosen) *
                       static_cast<std::uint32_t>(product_.num_inputs / kPieceElements) +
                   static_cast<std::uint32_t>(thread_ % kBlockPieces);
      }
    }
  }

  __device__ __forceinline__ void bring(const ProductItem& item, int part, std::int32_t input) {
    wait_for_phase(shared_address(&barriers_.free[ring_.stage]), ring_.parity ^ 1);
    const std::uint32_t full = shared_address(&barriers_.full[ring_.stage]);
    const std::uint32_t rows = memory_ + static_cast<std::uint32_t>(ring_.stage) * kSlabBytes;
    if (thread_ == 0) {
      const int row_boxes = kIsGateUp ? 0 : (item.num_rows() + kBoxRows - 1) / kBoxRows;
      expect_bytes(full,
                   static_cast<std::uint32_t>(kMatrices * num_boxes_ + row_boxes) * kBoxBytes);
      copy_weights(rows + kSlabRowsBytes, input, full);
      for (int i = 0; i < row_boxes; ++i) {
        copy_matrix_box(rows + static_cast<std::uint32_t>(i) * kBoxBytes, params_.row_boxes[part],
                        input, item.tile.begin + i * kBoxRows, full);
      }
    }
    if constexpr (kIsGateUp) {
      copy_rows(rows, part, input);
      arrive_after_copies(full);
    }
    if (thread_ == 0) arrive(full);
    ring_.advance();
  }

  /// What lies behind the last output is left as it is: nobody reads its products.
  __device__ __forceinline__ void copy_weights(std::uint32_t to, std::int32_t input,
                                               std::uint32_t full) const {
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int i = 0; i < kMatrixBoxes; ++i) {
        if (i >= num_boxes_) break;
        copy_box(to + static_cast<std::uint32_t>(m * kMatrixBoxes + i) * kBoxBytes,
                 params_.weight_boxes,
                 weights_[m] + i * kBoxRows * row_bytes() + input * sizeof(BFloat16), full);
      }
    }
  }

  /// Behind the last row the same.
  __device__ __forceinline__ void copy_rows(std::uint32_t to, int part, std::int32_t input) const {
    const auto* from = reinterpret_cast<const std::byte*>(product_.parts[part] + input);
    to += swizzled_bytes(thread_ / kBlockPieces, thread_ % kBlockPieces);
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {
      if (i < num_copies_) {
        copy16(to + i * kRowsAtOnce * kBlockRowBytes, from + std::uint64_t{rows_[i]} * kPieceBytes);
      }
    }
  }

  __device__ __forceinline__ std::int64_t row_bytes() const {
    return product_.num_inputs * static_cast<std::int64_t>(sizeof(BFloat16));
  }

  const WgmmaProduct& params_;
  const GroupedProduct& product_;
  SlabBarriers& barriers_;
  std::uint32_t memory_;
  int thread_;
  RingPlace<kSlabStages> ring_;
  // Of an item:
  const std::byte* weights_[kMatrices];  // its first row of each matrix
  int num_boxes_ = 0;                    // of each matrix
  int num_copies_ = 0;
  std::uint32_t rows_[kRowCopies];  // where this thread's pieces of them begin, in pieces
};

}  // namespace pikv::kernels::cuda
