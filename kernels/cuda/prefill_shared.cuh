// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the warps of a block of prefill attention share. A warpgroup brings what the others, 64
// lines each, compute with:
//
//   queries  of an item, rounded, through a ring
//   tiles    of up to kSlots slots that some line of the item may read, gathered in blocks of
//            kBlockSlots slots from wherever they are; keys and values through a ring each
//
// An item ends with a tile that has keys but no blocks.
#pragma once

#include <cstdint>

#include "kernels/cuda/barriers.cuh"
#include "kernels/cuda/boxes.hpp"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/prefill_plan.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kGroupLines = 64;
inline constexpr int kComputeGroups = kItemLines / kGroupLines;
inline constexpr int kComputeWarps = 4 * kComputeGroups;
inline constexpr int kPrefillThreads = (1 + kComputeGroups) * kGroupThreads;

// Of a thread. All begin with 168; the three warpgroups have as many together then.
inline constexpr int kProducerRegisters = 72;
inline constexpr int kConsumerRegisters = 216;
static_assert(kProducerRegisters + kComputeGroups * kConsumerRegisters == 3 * 168);

/// Sizes of a kernel for one type of elements, head size and size of blocks of slots: 16, of which
/// threads copy pieces, or, where it divides pages, 64, which the copy engine brings. Operands lie
/// in blocks of 64 columns (wgmma.cuh): queries [64 lines] by channels, keys [D] by slots, values
/// [kSlots] by channels.
template <class T, int kHeadDim, int kSlotsOfBlock>
struct PrefillShape {
  using Number = T;
  static constexpr int kDim = kHeadDim;
  static constexpr int kBlockSlots = kSlotsOfBlock;
  static constexpr bool kComesInBoxes = kBlockSlots == kBoxColumns;
  static_assert(kComesInBoxes || kBlockSlots == kLanes);
  // So that the sums of a line's scores and outputs and its weights fit into registers.
  static constexpr int kSlots = kDim > 128 ? 64 : 128;
  // Queries of the next item come while tiles of this one are left, where there is room; pieces,
  // which come slowly, have it for values, which are held longer than keys.
  static constexpr int kQueryStages = kDim <= 64 || (kDim <= 128 && kComesInBoxes) ? 2 : 1;
  static constexpr int kKeyStages = kDim > 64 ? 2 : 4;
  static constexpr int kValueStages = kDim <= 64 ? 4 : kDim <= 128 && !kComesInBoxes ? 3 : 2;
  static constexpr int kTileBlocks = kSlots / kBlockSlots;
  static constexpr std::uint32_t kQueryBlockBytes = kGroupLines * kBlockRowBytes;
  static constexpr std::uint32_t kKeyBlockBytes = kDim * kBlockRowBytes;
  static constexpr std::uint32_t kValueBlockBytes = kSlots * kBlockRowBytes;
  static constexpr std::uint32_t kGroupQueryBytes = kGroupLines * kDim * sizeof(T);
  static constexpr std::uint32_t kTileBytes = kSlots * kDim * sizeof(T);  // of keys or values
  static constexpr std::uint32_t kQueryStageBytes = kComputeGroups * kGroupQueryBytes;
  static constexpr std::uint32_t kKeysAt = kQueryStages * kQueryStageBytes;
  static constexpr std::uint32_t kValuesAt = kKeysAt + kKeyStages * kTileBytes;
  // The first block of rows begins at a multiple of 1024.
  static constexpr std::uint32_t kSharedBytes = kValuesAt + kValueStages * kTileBytes + 1024;
};

/// kBlockSlots slots that may be read: where.
struct FoundBlock {
  std::byte* page;
  std::int32_t slot;     // the first one, of the page
  std::int32_t is_open;  // 0 or 1
};

/// Of the positions in some slots; kNoPosition is one.
struct PositionSpan {
  std::int32_t lowest;
  std::int32_t highest;
};

/// As many as are looked at at once and fewer than a tile's, rounded up to a power of two.
inline constexpr int kFoundBlocks = 2 * kGroupThreads;

struct TileHead {
  std::int32_t num_blocks;
  PositionSpan span;
};

template <class Shape>
struct PrefillShared {
  // Of the rings: when a stage is full, and when it is free again.
  std::uint64_t queries_full[Shape::kQueryStages];
  std::uint64_t queries_free[Shape::kQueryStages];
  std::uint64_t keys_full[Shape::kKeyStages];
  std::uint64_t keys_free[Shape::kKeyStages];
  std::uint64_t values_full[Shape::kValueStages];
  std::uint64_t values_free[Shape::kValueStages];
  PrefillItem items[Shape::kQueryStages];                                // with the queries
  TileHead heads[Shape::kKeyStages];                                     // with the keys
  alignas(16) std::int32_t positions[Shape::kKeyStages][Shape::kSlots];  // with the keys
  // Of the warpgroup that brings: a ring of blocks that it found, and what its warps tell each
  // other.
  FoundBlock found[kFoundBlocks];
  PositionSpan spans[kFoundBlocks];
  std::int32_t num_found[kGroupThreads / kWarpThreads];
  std::uint32_t taken;
};

}  // namespace pikv::kernels::cuda
