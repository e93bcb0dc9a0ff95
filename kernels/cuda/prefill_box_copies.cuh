// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a warpgroup of prefill attention copies tiles from pages that kBoxColumns divides: its first
// thread asks the copy engine for blocks of sealed pages, one box of keys and one of values for
// each block of columns; all threads round what is of the open page.
#pragma once

#include <cstdint>

#include "kernels/cuda/boxes.cuh"
#include "kernels/cuda/prefill_finder.cuh"
#include "kernels/cuda/prefill_rounding.cuh"

namespace pikv::kernels::cuda {

template <class Shape>
class BoxCopies {
  using Number = typename Shape::Number;
  static constexpr int kDim = Shape::kDim;
  static constexpr int kParts = kDim / kBlockColumns;  // of a row of values
  static constexpr std::uint32_t kValueBoxBytes = kBoxColumns * kBlockRowBytes;

 public:
  __device__ BoxCopies(const PrefillParams& params, int thread)
      : params_(params), thread_(thread) {}

  /// Keys of the first `count` blocks. Whether this thread wrote any itself.
  __device__ bool keys(const BlockFinder<Shape>& finder, std::uint32_t tile, std::uint32_t full,
                       int count) const {
    bool stores = false;
#pragma unroll
    for (int b = 0; b < Shape::kTileBlocks; ++b) {
      const FoundBlock block = finder.found(b, count);
      const std::uint32_t to = tile + b * Shape::kKeyBlockBytes;
      if (block.is_open != 0) {
        store_keys(block, to);
        stores = true;
      } else if (thread_ == 0) {
        expect_bytes(full, Shape::kKeyBlockBytes);
        copy_box(to, params_.key_boxes, block.page + std::int64_t{block.slot} * sizeof(Number),
                 full);
      }
    }
    return stores;
  }

  /// Values of the first `count` blocks.
  __device__ bool values(const BlockFinder<Shape>& finder, std::uint32_t tile, std::uint32_t full,
                         int count) const {
    bool stores = false;
#pragma unroll
    for (int b = 0; b < Shape::kTileBlocks; ++b) {
      const FoundBlock block = finder.found(b, count);
      const std::uint32_t to = tile + b * kValueBoxBytes;
      if (block.is_open != 0) {
        store_values(block, to);
        stores = true;
      } else if (thread_ == 0) {
        expect_bytes(full, kParts * kValueBoxBytes);
        const std::byte* from = block.page + params_.sealed.value_bytes +
                                std::int64_t{block.slot} * kDim * sizeof(Number);
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          copy_box(to + part * Shape::kValueBlockBytes, params_.value_boxes,
                   from + part * kBlockRowBytes, full);
        }
      }
    }
    return stores;
  }

 private:
  /// A thread stores one piece, eight slots, of every 16th channel.
  __device__ void store_keys(const FoundBlock& block, std::uint32_t to) const {
    constexpr int kChannelsAtOnce = kGroupThreads / kBlockPieces;
    const int piece = thread_ % kBlockPieces;
    const float* from =
        reinterpret_cast<const float*>(block.page) + block.slot + piece * kPieceElements;
#pragma unroll 2
    for (int channel = thread_ / kBlockPieces; channel < kDim; channel += kChannelsAtOnce) {
      store_shared16(to + swizzled_bytes(channel, piece),
                     rounded_piece<Number>(from + std::int64_t{channel} * params_.num_slots));
    }
  }

  /// A thread stores one piece, eight channels, of every kRowsAtOnce-th slot.
  __device__ void store_values(const FoundBlock& block, std::uint32_t to) const {
    constexpr int kRowPieces = kDim / kPieceElements;
    constexpr int kRowsAtOnce = kGroupThreads / kRowPieces;
    const int piece = thread_ % kRowPieces;
    const float* from = reinterpret_cast<const float*>(block.page + params_.open.value_bytes) +
                        std::int64_t{block.slot} * kDim + piece * kPieceElements;
    to += piece / kBlockPieces * Shape::kValueBlockBytes;
#pragma unroll 2
    for (int row = thread_ / kRowPieces; row < kBoxColumns; row += kRowsAtOnce) {
      store_shared16(to + swizzled_bytes(row, piece % kBlockPieces),
                     rounded_piece<Number>(from + row * kDim));
    }
  }

  const PrefillParams& params_;
  int thread_;
};

}  // namespace pikv::kernels::cuda
