// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How a warpgroup of prefill attention copies tiles from pages of any size: pieces of 16 bytes of
// blocks of kLanes slots, with cp.async where pages are sealed; of the open page they are rounded.
#pragma once

#include <cstdint>

#include "kernels/cuda/prefill_finder.cuh"
#include "kernels/cuda/prefill_rounding.cuh"

namespace pikv::kernels::cuda {

template <class Shape>
class PieceCopies {
  using Number = typename Shape::Number;
  static constexpr int kDim = Shape::kDim;
  // Pieces of a row of channels, and rows that the threads copy at once.
  static constexpr int kRowPieces = kDim / kPieceElements;
  static constexpr int kRowsAtOnce = kGroupThreads / kRowPieces;
  static_assert(kRowsAtOnce <= kLanes);

 public:
  __device__ PieceCopies(const PrefillParams& params, int thread)
      : params_(params), thread_(thread) {}

  /// Keys of the first `count` blocks. Whether this thread wrote any itself.
  /// A thread copies one piece, eight slots, of every kRowsAtOnce-th channel.
  __device__ bool keys(const BlockFinder<Shape>& finder, std::uint32_t tile, std::uint32_t /*full*/,
                       int count) const {
    constexpr int kPieces = Shape::kSlots / kPieceElements;
    constexpr int kChannelsAtOnce = kGroupThreads / kPieces;
    constexpr int kBlockOfPieces = kLanes / kPieceElements;
    static_assert(kChannelsAtOnce % 8 == 0, "pieces of a thread are swizzled alike");
    const int piece = thread_ % kPieces;
    const int channel = thread_ / kPieces;
    const FoundBlock block = finder.found(piece / kBlockOfPieces, count);
    const std::int32_t slot = block.slot + piece % kBlockOfPieces * kPieceElements;
    const std::int64_t first = std::int64_t{channel} * params_.num_slots + slot;
    const std::int64_t step = std::int64_t{kChannelsAtOnce} * params_.num_slots;
    const std::uint32_t to = tile + piece / kBlockPieces * Shape::kKeyBlockBytes +
                             swizzled_bytes(channel, piece % kBlockPieces);
    constexpr std::uint32_t kStepBytes = kChannelsAtOnce * kBlockRowBytes;
    if (block.is_open != 0) {
      const float* from = reinterpret_cast<const float*>(block.page) + first;
#pragma unroll 2
      for (int i = 0; i < kDim / kChannelsAtOnce; ++i) {
        store_shared16(to + i * kStepBytes, rounded_piece<Number>(from + i * step));
      }
      return true;
    }
    const std::byte* from = block.page + first * sizeof(Number);
#pragma unroll
    for (int i = 0; i < kDim / kChannelsAtOnce; ++i) {
      copy16(to + i * kStepBytes, from + i * step * sizeof(Number));
    }
    return false;
  }

  /// A thread copies one piece, eight channels, of every kRowsAtOnce-th slot.
  __device__ bool values(const BlockFinder<Shape>& finder, std::uint32_t tile,
                         std::uint32_t /*full*/, int count) const {
    const int piece = thread_ % kRowPieces;
    const int row = thread_ / kRowPieces;
    tile += piece / kBlockPieces * Shape::kValueBlockBytes;
    bool stores = false;
#pragma unroll 2
    for (int b = 0; b < Shape::kTileBlocks; ++b) {
      const FoundBlock block = finder.found(b, count);
      const std::int64_t first = std::int64_t{block.slot + row} * kDim + piece * kPieceElements;
      const auto to = [&](int i) {
        return tile + swizzled_bytes(b * kLanes + row + i, piece % kBlockPieces);
      };
      if (block.is_open != 0) {
        const auto* from =
            reinterpret_cast<const float*>(block.page + params_.open.value_bytes) + first;
#pragma unroll 1
        for (int i = 0; i < kLanes; i += kRowsAtOnce) {
          store_shared16(to(i), rounded_piece<Number>(from + i * kDim));
        }
        stores = true;
      } else {
        const std::byte* from = block.page + params_.sealed.value_bytes + first * sizeof(Number);
#pragma unroll
        for (int i = 0; i < kLanes; i += kRowsAtOnce) {
          copy16(to(i), from + i * kDim * sizeof(Number));
        }
      }
    }
    return stores;
  }

 private:
  const PrefillParams& params_;
  int thread_;
};

}  // namespace pikv::kernels::cuda
