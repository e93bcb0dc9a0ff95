// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the warps of a block of grouped_wgmma.cu share: a ring of slabs, of 64 inputs each, of the
// rows of a tile and of the weights that they are multiplied by. A stage has the rows, a block of
// 64 of them for each warpgroup that computes, and behind them 256 rows of weights (blocks as in
// wgmma.cuh), dealt (boxes.hpp); of gate and up, 128 of each, so that both of an output come to one
// thread.
//
// A block takes every gridDim.x-th of the items, tiles of rows by tiles of outputs, for each all
// slabs of each part of the rows, the smallest part first.
#pragma once

#include <cstdint>

#include "kernels/cuda/barriers.cuh"
#include "kernels/cuda/boxes.hpp"
#include "kernels/cuda/grouped_product.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kSlabInputs = kBlockColumns;
inline constexpr int kSlabStages = 4;
inline constexpr int kSlabWeights = 256;  // the columns of one product
inline constexpr int kGroupRows = 64;
inline constexpr int kProductGroups = kTileRows / kGroupRows;
inline constexpr int kProductWarps = kProductGroups * kGroupThreads / kWarpThreads;
inline constexpr int kWgmmaThreads = (1 + kProductGroups) * kGroupThreads;

inline constexpr int kWeightsOfWarp = 2 * kDealtRows;  // of a slab, that a warp brings
static_assert(kSlabWeights == kGroupThreads / kWarpThreads * kWeightsOfWarp);

inline constexpr std::uint32_t kSlabRowsBytes = kTileRows * kBlockRowBytes;
inline constexpr std::uint32_t kSlabBytes = kSlabRowsBytes + kSlabWeights * kBlockRowBytes;
// The first stage begins at a multiple of 1024.
inline constexpr std::uint32_t kWgmmaSharedBytes = kSlabStages * kSlabBytes + 1024;
static_assert(kSlabBytes % 1024 == 0);

template <bool kIsGateUp>
inline constexpr int kItemOutputs = kIsGateUp ? kSlabWeights / 2 : kSlabWeights;

// Blocks that run together should share what they read: so many tiles of rows by all tiles of
// outputs, rows first, then the next ones. 16 x 128 rows by what 132 blocks have of outputs then,
// some 8 x 256, is nearly a square.
inline constexpr std::uint32_t kItemTilesTogether = 16;

struct WgmmaProduct {
  GroupedProduct product;
  CUtensorMap weight_boxes;              // of any matrix
  CUtensorMap row_boxes[kMaxBf16Parts];  // of parts, of the second product only
};

/// When a stage is full, and when it is free again.
struct SlabBarriers {
  std::uint64_t full[kSlabStages];
  std::uint64_t free[kSlabStages];
};

struct ProductItem {
  RowTile tile;
  std::int32_t first_output;

  /// Not 0, except behind the last item.
  __device__ __forceinline__ int num_rows() const { return tile.end - tile.begin; }
};

/// The items of this block, one after the other. Which tile is next is read one item ahead.
template <bool kIsGateUp>
class ItemWalk {
  static constexpr std::int32_t kOutputs = kItemOutputs<kIsGateUp>;

 public:
  __device__ explicit ItemWalk(const GroupedProduct& product)
      : tiles_(product.order.tiles),
        num_tiles_(static_cast<std::uint32_t>(*product.order.num_tiles)),
        output_tiles_(static_cast<std::uint32_t>((product.num_outputs + kOutputs - 1) / kOutputs)),
        next_(read()) {}

  __device__ __forceinline__ ProductItem take() {
    const ProductItem item = next_;
    next_ = read();
    return item;
  }

 private:
  __device__ __forceinline__ ProductItem read() {
    if (subscript_ >= num_tiles_ * output_tiles_) return {};
    const std::uint32_t together = kItemTilesTogether * output_tiles_;
    const std::uint32_t first_tile = subscript_ / together * kItemTilesTogether;
    const std::uint32_t within = subscript_ % together;
    const std::uint32_t height = min(kItemTilesTogether, num_tiles_ - first_tile);
    subscript_ += gridDim.x;
    return {tiles_[first_tile + within % height],
            static_cast<std::int32_t>(within / height) * kOutputs};
  }

  const RowTile* tiles_;
  std::uint32_t num_tiles_;
  std::uint32_t output_tiles_;
  std::uint32_t subscript_ = blockIdx.x;
  ProductItem next_;
};

}  // namespace pikv::kernels::cuda
