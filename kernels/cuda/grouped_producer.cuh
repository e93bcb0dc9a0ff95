// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The warpgroup of grouped_wgmma.cu that brings slabs (grouped_shared.cuh). The first lane of each
// warp asks the copy engine for two boxes of weights, and of the second product for a box of rows;
// rows of the first product all threads copy, a piece of every 16th row each.
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

 public:
  __device__ SlabProducer(const WgmmaProduct& params, SlabShared& shared, std::uint32_t memory)
      : params_(params),
        product_(params.product),
        shared_(shared),
        memory_(memory),
        thread_(static_cast<int>(threadIdx.x) % kGroupThreads),
        warp_(thread_ / kWarpThreads) {}

  /// Arrivals of this warpgroup at the barrier of a full stage: of first lanes, and of copies.
  static constexpr int kArrivals = kGroupThreads / kWarpThreads + (kIsGateUp ? kGroupThreads : 0);

  __device__ void run() {
    const ProductItems<kIsGateUp> items(product_);
    ProductItem item = items.find(blockIdx.x);
    while (item.num_rows() > 0) {
      take();
      begin(item);
      for (int part = 0; part < product_.num_parts; ++part) {
        for (std::int32_t input = 0; input < product_.num_inputs; input += kSlabInputs) {
          bring(item, part, input);
        }
      }
      item = items.find(next());
    }
    has_weights_ = false;
    has_row_box_ = false;
    num_copies_ = 0;
    bring(item, 0, 0);
  }

 private:
  /// Long before the answer is needed.
  __device__ void take() {
    if (thread_ == 0) {
      taken_ = gridDim.x + atomicAdd(&product_.order.num_taken[kIsGateUp ? 0 : 1], 1u);
    }
  }

  /// The item that was taken last.
  __device__ std::uint32_t next() {
    constexpr int kBarrier = 1;
    if (thread_ == 0) shared_.taken = taken_;
    wait_among<kGroupThreads>(kBarrier);
    const std::uint32_t taken = shared_.taken;
    wait_among<kGroupThreads>(kBarrier);  // it is written again
    return taken;
  }

  __device__ void begin(const ProductItem& item) {
    const ExpertMatrices& expert = product_.table[item.tile.expert];
    const void* matrix = expert.down;
    std::int64_t output = item.first_output + warp_ * kWeightsOfWarp;
    if constexpr (kIsGateUp) {
      constexpr int kWarps = kItemOutputs<true> / kWeightsOfWarp;  // that bring one matrix
      matrix = warp_ < kWarps ? expert.gate : expert.up;
      output = item.first_output + warp_ % kWarps * kWeightsOfWarp;
    }
    weights_ = static_cast<const std::byte*>(matrix) + output * row_bytes();
    // What lies behind the last output or row is left as it is: nobody reads its products.
    has_weights_ = output < product_.num_outputs;
    has_row_box_ = !kIsGateUp && warp_ * kGroupRows < item.num_rows();
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
    wait_for_phase(shared_address(&shared_.free[ring_.stage]), ring_.parity ^ 1);
    const std::uint32_t full = shared_address(&shared_.full[ring_.stage]);
    const std::uint32_t rows = memory_ + static_cast<std::uint32_t>(ring_.stage) * kSlabBytes;
    const bool is_first = thread_ % kWarpThreads == 0;
    if (thread_ == 0) shared_.items[ring_.stage] = item;
    if (is_first && has_weights_) {
      constexpr std::uint32_t kDealtBytes = kDealtRows * kBlockRowBytes;
      const std::uint32_t to =
          rows + kSlabRowsBytes + static_cast<std::uint32_t>(warp_) * 2 * kDealtBytes;
      const std::byte* from = weights_ + input * sizeof(BFloat16);
      expect_bytes(full, 2 * kDealtBytes);
      copy_dealt_box(to, params_.weight_boxes, from, full);
      copy_dealt_box(to + kDealtBytes, params_.weight_boxes, from + kDealtRows * row_bytes(), full);
    }
    if (is_first && has_row_box_) {
      constexpr std::uint32_t kBoxBytes = kGroupRows * kBlockRowBytes;
      expect_bytes(full, kBoxBytes);
      copy_matrix_box(rows + static_cast<std::uint32_t>(warp_) * kBoxBytes, params_.row_boxes[part],
                      input, item.tile.begin + warp_ * kGroupRows, full);
    }
    if constexpr (kIsGateUp) {
      copy_rows(rows, part, input);
      arrive_after_copies(full);
    }
    if (is_first) arrive(full);
    ring_.advance();
  }

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
  SlabShared& shared_;
  std::uint32_t memory_;
  int thread_;
  int warp_;
  std::uint32_t taken_ = 0;  // of the first thread
  RingPlace<kSlabStages> ring_;
  // Of an item:
  const std::byte* weights_ = nullptr;  // the first that this warp brings
  bool has_weights_ = false;
  bool has_row_box_ = false;
  int num_copies_ = 0;
  std::uint32_t rows_[kRowCopies];  // where this thread's pieces of them begin, in pieces
};

}  // namespace pikv::kernels::cuda
