// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the warps of a block of grouped_wgmma.cu share: a ring of slabs, of 64 inputs each, of the
// rows of a tile and of the weights that they are multiplied by. A stage has the rows, a block of
// 64 of them for each warpgroup that computes, and behind them 256 rows of weights (blocks as in
// wgmma.cuh), dealt (boxes.hpp); of gate and up, 128 of each, so that both of an output come to one
// thread.
//
// Items are tiles of rows by tiles of outputs, for each all slabs of each part of the rows, the
// smallest part first. A block begins with the one that has its number and takes another, whichever
// is the next, when it begins to bring one. Every slab says which item it is of; after the last
// comes one that is of none.
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

struct alignas(16) ProductItem {
  ExpertGroup tile;
  std::int32_t first_output;

  /// Not 0, except behind the last item.
  __device__ __forceinline__ int num_rows() const { return tile.end - tile.begin; }
};

struct SlabShared {
  // Of the ring: when a stage is full, and when it is free again.
  std::uint64_t full[kSlabStages];
  std::uint64_t free[kSlabStages];
  ProductItem items[kSlabStages];  // what the slab in a stage is of
  std::uint32_t taken;             // of the warpgroup that brings
};

/// All items of a product by their subscripts.
template <bool kIsGateUp>
class ProductItems {
  static constexpr std::int32_t kOutputs = kItemOutputs<kIsGateUp>;

 public:
  __device__ explicit ProductItems(const GroupedProduct& product)
      : tiles_(product.order.groups),
        num_tiles_(static_cast<std::uint32_t>(*product.order.num_groups)),
        output_tiles_(static_cast<std::uint32_t>((product.num_outputs + kOutputs - 1) / kOutputs)) {
  }

  /// Without rows behind the last one.
  __device__ __forceinline__ ProductItem find(std::uint32_t subscript) const {
    if (subscript >= num_tiles_ * output_tiles_) return {};
    const std::uint32_t together = kItemTilesTogether * output_tiles_;
    const std::uint32_t first_tile = subscript / together * kItemTilesTogether;
    const std::uint32_t within = subscript % together;
    const std::uint32_t height = min(kItemTilesTogether, num_tiles_ - first_tile);
    return {tiles_[first_tile + within % height],
            static_cast<std::int32_t>(within / height) * kOutputs};
  }

 private:
  const ExpertGroup* tiles_;
  std::uint32_t num_tiles_;
  std::uint32_t output_tiles_;
};

}  // namespace pikv::kernels::cuda
