// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A block of linear_cluster.cu. Three warpgroups share out its units, of 64 outputs. Each
// multiplies slabs of 64 outputs by 64 inputs, which a warp of its own brings through a ring, shows
// the cluster the sums of the unit, waits for those of the other blocks, and adds up a few rows of
// them, while the others multiply. Weights are operand a of wgmma, rows and their parts the columns
// of b.
#pragma once

#include <cstdint>

#include "kernels/cuda/barriers.cuh"
#include "kernels/cuda/boxes.cuh"
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/linear_cluster_shared.cuh"

namespace pikv::kernels::cuda {

/// kBlocks: of eight rows.
template <int kBlocks>
class ClusterBlock {
  static constexpr int kRows = kBlocks * kFewRowsBlock;
  static constexpr std::uint32_t kSlabOfRows = kBlocks * kRowSlabBytes;
  using Sums = float[kMaxBf16Parts * kBlocks * 4];

 public:
  __device__ ClusterBlock(const ClusterParams& params, ClusterShared& shared, std::byte* memory)
      : params_(params),
        shared_(shared),
        weights_(shared_address(memory)),
        rows_(weights_ + kClusterRowsBegin),
        sums_(reinterpret_cast<UnitSums*>(memory + kClusterSumsBegin)),
        rank_(rank_in_cluster()),
        first_row_(std::int64_t{blockIdx.x / kClusterBlocks % params.row_groups} * kClusterRows) {
    const auto num_slabs = static_cast<std::uint32_t>(params.num_inputs / kBlockColumns);
    first_slab_ = num_slabs * rank_ / kClusterBlocks;
    num_slabs_ = num_slabs * (rank_ + 1) / kClusterBlocks - first_slab_;
  }

  /// Of the first thread.
  __device__ void init_barriers() const {
    for (int group = 0; group < kClusterGroups; ++group) {
      for (int i = 0; i < kClusterStages; ++i) {
        init_barrier(shared_address(&shared_.full[group][i]), 1);
        init_barrier(shared_address(&shared_.free[group][i]), kClusterGroupWarps);
      }
      for (int i = 0; i < kSumTurns; ++i) {
        init_barrier(shared_address(&shared_.shown[group][i]), kClusterBlocks);
      }
    }
    show_tensor_cores();  // and the copy engine
  }

  /// Of the warp that brings the weights of a group.
  __device__ void bring(int group) {
    for (ClusterUnits units(params_, group); !units.is_done(); units.advance()) {
      std::int64_t output;
      const ClusterProduct& product = units.find(output);
      const BFloat16* from =
          product.weight + output * params_.num_inputs + std::int64_t{first_slab_} * kBlockColumns;
      for (std::uint32_t slab = 0; slab < num_slabs_; ++slab, from += kBlockColumns) {
        wait_for_phase(shared_address(&shared_.free[group][ring_.stage]), ring_.parity ^ 1);
        if (threadIdx.x % kWarpThreads == 0) {
          const std::uint32_t full = shared_address(&shared_.full[group][ring_.stage]);
          expect_bytes(full, kWeightSlabBytes);
          copy_box(stage(group), params_.weight_boxes, reinterpret_cast<const std::byte*>(from),
                   full);
          arrive(full);
        }
        ring_.advance();
      }
    }
  }

  /// Cuts this block's inputs of the rows into parts. Of the threads that multiply.
  __device__ void take_rows() const {
    const std::int64_t first_input = std::int64_t{first_slab_} * kBlockColumns;
    const auto num_pieces = static_cast<int>(num_slabs_ * kRows * kBlockPieces);
    // Neighbours read neighbouring pieces of a row.
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < num_pieces;
         i += kClusterGroups * kGroupThreads) {
      const int piece = i % kBlockPieces;
      const int slab = i / kBlockPieces % static_cast<int>(num_slabs_);
      const int row = i / kBlockPieces / static_cast<int>(num_slabs_);
      uint4 a{};
      uint4 b{};
      if (first_row_ + row < params_.num_rows) {
        const auto* from = reinterpret_cast<const uint4*>(
            params_.x + (first_row_ + row) * params_.num_inputs + first_input +
            slab * kBlockColumns + piece * kPieceElements);
        a = from[0];
        b = from[1];
      }
      const RowChunk chunk = split_chunk({a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w});
#pragma unroll
      for (int p = 0; p < kMaxBf16Parts; ++p) {
        const std::uint32_t* const part = chunk.parts[p];
        store_shared16(rows_ + slab * kSlabOfRows + swizzled_bytes(p * kRows + row, piece),
                       {part[0], part[1], part[2], part[3]});
      }
    }
    show_tensor_cores();
  }

  /// All units of a group. Sums of one travel while it multiplies the next.
  __device__ void multiply(int group) {
    ClusterUnits units(params_, group);
    ClusterUnits shown = units;
    RingPlace<kSumTurns> turn;
    RingPlace<kSumTurns> shown_turn;
    for (bool is_first = true; !units.is_done(); units.advance(), is_first = false) {
      Sums sums;
      multiply_slabs(group, sums);
      if (!is_first) add_up(shown, group, shown_turn);
      // The other blocks have read what lies there: since then they showed another unit.
      show(sums_[group * kSumTurns + turn.stage], sums);
      tell_cluster(group, turn.stage);
      shown = units;
      shown_turn = turn;
      turn.advance();
    }
    if (!shown.is_done()) add_up(shown, group, shown_turn);
  }

 private:
  [[nodiscard]] __device__ __forceinline__ std::uint32_t stage(int group) const {
    return weights_ +
           static_cast<std::uint32_t>(group * kClusterStages + ring_.stage) * kWeightSlabBytes;
  }

  __device__ __forceinline__ void multiply_slabs(int group, Sums& sums) {
    int released = ring_.stage;
    const auto release = [&] {
      if (threadIdx.x % kWarpThreads == 0) {
        arrive(shared_address(&shared_.free[group][released]));
      }
      released = (released + 1) % kClusterStages;
    };
    for (std::uint32_t slab = 0; slab < num_slabs_; ++slab) {
      wait_for_phase(shared_address(&shared_.full[group][ring_.stage]), ring_.parity);
      const Operand weights = operand_at(stage(group), 0);
      const Operand rows = operand_at(rows_ + slab * kSlabOfRows, 0);
      begin_products();
#pragma unroll
      for (int i = 0; i < kBlockColumns / 16; ++i) {
        multiply_by_rows(sums, weights + i * kNextColumns, rows + i * kNextColumns,
                         slab > 0 || i > 0);
      }
      commit_products();
      ring_.advance();
      if (slab == 0) continue;
      wait_for_products<1>();
      release();
    }
    wait_for_products<0>();
    hold(sums);
    release();
  }

  /// Parts, the smallest first, added up.
  __device__ __forceinline__ void show(UnitSums& of_unit, const Sums& sums) const {
    const int warp = static_cast<int>(threadIdx.x) % kGroupThreads / kWarpThreads;
    const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float total = 0.0f;
#pragma unroll
        for (int p = 0; p < kMaxBf16Parts; ++p) total += sums[(p * kBlocks + block) * 4 + i];
        of_unit[block * kFewRowsBlock + 2 * t + i % 2][16 * warp + g + i / 2 * 8] = total;
      }
    }
  }

  /// That this warpgroup's sums are there.
  __device__ __forceinline__ void tell_cluster(int group, int turn) const {
    wait_among<kGroupThreads>(1 + group);
    const auto thread = static_cast<std::uint32_t>(threadIdx.x) % kGroupThreads;
    if (thread < kClusterBlocks) {
      arrive_at_that_of_cluster(that_of(shared_address(&shared_.shown[group][turn]), thread));
    }
  }

  /// y of the rows of a unit that are this block's, once all blocks show their sums.
  __device__ __forceinline__ void add_up(const ClusterUnits& units, int group,
                                         const RingPlace<kSumTurns>& turn) const {
    const UnitSums& of_unit = sums_[group * kSumTurns + turn.stage];
    wait_for_phase_of_cluster(shared_address(&shared_.shown[group][turn.stage]), turn.parity);
    static_assert(kRows == kBlocks * kClusterBlocks);
    constexpr int kPairs = kUnitOutputs / 2;
    static_assert(kPairs == kWarpThreads);
    const int row_of_block = static_cast<int>(threadIdx.x) % kGroupThreads / kPairs;
    const int row = static_cast<int>(rank_) * kBlocks + row_of_block;
    if (row_of_block >= kBlocks || first_row_ + row >= params_.num_rows) return;
    const int pair = static_cast<int>(threadIdx.x) % kPairs;
    const std::uint32_t from = shared_address(&of_unit[row][2 * pair]);
    float2 theirs[kClusterBlocks];
#pragma unroll
    for (std::uint32_t r = 0; r < kClusterBlocks; ++r) {
      theirs[r] = load_of_cluster(that_of(from, r));
    }
    float2 total{};
#pragma unroll
    for (int r = 0; r < kClusterBlocks; ++r) {
      total.x += theirs[r].x;
      total.y += theirs[r].y;
    }
    std::int64_t output;
    const ClusterProduct& product = units.find(output);
    output += 2 * pair;
    if (product.bias != nullptr) {
      total.x += product.bias[output];
      total.y += product.bias[output + 1];
    }
    float* const y = product.y + (first_row_ + row) * product.num_outputs + output;
    y[0] = total.x;
    y[1] = total.y;
  }

  const ClusterParams& params_;
  ClusterShared& shared_;
  std::uint32_t weights_;
  std::uint32_t rows_;
  UnitSums* sums_;  // [kClusterGroups, kSumTurns]
  std::uint32_t rank_;
  std::int64_t first_row_;
  std::uint32_t first_slab_;  // of inputs, of this block
  std::uint32_t num_slabs_;
  RingPlace<kClusterStages> ring_;
};

}  // namespace pikv::kernels::cuda
