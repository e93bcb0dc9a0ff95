// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the host and the blocks of linear_cluster.cu share: the products, how they are cut into
// units of 64 outputs, and where in shared memory everything lies.
#pragma once

#include <cstdint>

#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/boxes.hpp"
#include "kernels/cuda/few_rows.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kMaxClusterProducts = 4;
inline constexpr int kClusterBlocks = 8;
inline constexpr int kClusterRows = 32;   // of a cluster
inline constexpr int kUnitOutputs = 64;   // of wgmma
inline constexpr int kClusterStages = 3;  // of a group
inline constexpr int kClusterGroups = 3;  // of warps that multiply
inline constexpr int kSumTurns = 2;       // of a group's sums
inline constexpr int kClusterGroupWarps = kGroupThreads / kWarpThreads;
inline constexpr int kClusterThreads = kClusterGroups * (kGroupThreads + kWarpThreads);
inline constexpr std::uint32_t kWeightSlabBytes = kUnitOutputs * kBlockRowBytes;
// Of eight rows and a slab of inputs, all parts.
inline constexpr std::uint32_t kRowSlabBytes = kMaxBf16Parts * kFewRowsBlock * kBlockRowBytes;
inline constexpr std::uint32_t kMaxRowSlabs = 32;  // of a block

struct ClusterProduct {
  const BFloat16* __restrict__ weight;  // [N, K]
  const float* __restrict__ bias;       // [N], or null
  float* __restrict__ y;                // [T, N]
  std::int64_t num_outputs;             // N
  unsigned first_unit;
};

struct ClusterParams {
  CUtensorMap weight_boxes;                      // of any of the matrices
  ClusterProduct products[kMaxClusterProducts];  // those behind the last one begin behind all units
  const float* __restrict__ x;                   // [T, K]
  std::int64_t num_rows;                         // T
  std::int64_t num_inputs;                       // K
  unsigned num_units;
  unsigned row_groups;  // of kClusterRows; clusters take one each, in turn
};

/// Sums of a unit, which lie so that neither writes nor reads of a warp meet in a bank.
using UnitSums = float[kClusterRows][kUnitOutputs + 4];

struct ClusterShared {
  // Of the rings: when a stage is full, and when it is free again.
  std::uint64_t full[kClusterGroups][kClusterStages];
  std::uint64_t free[kClusterGroups][kClusterStages];
  std::uint64_t shown[kClusterGroups][kSumTurns];  // sums, by all blocks
};

// Stages of all groups, from a multiple of 1024 on, slabs of rows, and sums.
inline constexpr std::uint32_t kClusterRowsBegin =
    kClusterGroups * kClusterStages * kWeightSlabBytes;
inline constexpr std::uint32_t kClusterSumsBegin = kClusterRowsBegin + kMaxRowSlabs * kRowSlabBytes;
inline constexpr std::uint32_t kClusterSharedBytes =
    kClusterSumsBegin + kClusterGroups * kSumTurns * sizeof(UnitSums) + 1024;

/// ClusterUnits of a group of a cluster, one after another.
class ClusterUnits {
 public:
  __device__ ClusterUnits(const ClusterParams& params, int group) : params_(&params) {
    const unsigned num_clusters = gridDim.x / kClusterBlocks / params.row_groups;
    next_ = blockIdx.x / kClusterBlocks / params.row_groups +
            static_cast<unsigned>(group) * num_clusters;
    step_ = kClusterGroups * num_clusters;
  }

  [[nodiscard]] __device__ __forceinline__ bool is_done() const {
    return next_ >= params_->num_units;
  }
  __device__ __forceinline__ void advance() { next_ += step_; }

  /// The product of the unit, and its first output there.
  __device__ __forceinline__ const ClusterProduct& find(std::int64_t& first_output) const {
    int which = 0;
#pragma unroll
    for (int i = 1; i < kMaxClusterProducts; ++i) {
      if (next_ >= params_->products[i].first_unit) which = i;
    }
    const ClusterProduct& product = params_->products[which];
    first_output = std::int64_t{next_ - product.first_unit} * kUnitOutputs;
    return product;
  }

 private:
  const ClusterParams* params_;
  unsigned next_;
  unsigned step_;
};

}  // namespace pikv::kernels::cuda
