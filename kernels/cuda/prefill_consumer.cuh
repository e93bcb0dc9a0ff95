// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A warpgroup of prefill attention that computes, 64 lines of each item (prefill_shared.cuh), as
// Shah et al. 2024 (FlashAttention-3, 2407.08608): while the tensor cores work on the scores of a
// tile and on the output of the one before, its lines are weighed; and the warpgroups take turns at
// starting products, so that one weighs while the other multiplies. Weights are rounded to the type
// of the pages; their sum is not.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/prefill_shared.cuh"
#include "kernels/cuda/prefill_softmax.cuh"

namespace pikv::kernels::cuda {

template <class Shape>
class PrefillConsumer {
  using Number = typename Shape::Number;
  static constexpr int kDim = Shape::kDim;
  static constexpr int kSlots = Shape::kSlots;
  static constexpr int kFirstTurnBarrier = 2;  // one a warpgroup
  static constexpr int kTurnThreads = 2 * kGroupThreads;
  static_assert(kComputeGroups == 2);
  // Outputs are products of at most 128 columns.
  static constexpr int kPartColumns = kDim > 128 ? 128 : kDim;
  static constexpr int kParts = kDim / kPartColumns;

  // Of a thread: two lines, g and g + 8 of its warp's 16 (wgmma.cuh).
  using Scores = float[kSlots / 2];
  using Weights = std::uint32_t[kSlots / 4];
  using Outputs = float[kParts][kPartColumns / 2];

 public:
  __device__ PrefillConsumer(const PrefillParams& params, PrefillShared<Shape>& shared,
                             std::uint32_t memory, int group)
      : params_(params),
        shared_(shared),
        memory_(memory),
        group_(group),
        warp_(static_cast<int>(threadIdx.x) / kWarpThreads % 4),
        lane_(static_cast<int>(threadIdx.x) % kWarpThreads),
        scale_(params.scale * 1.44269504088896f) {}

  __device__ void run() {
    if (group_ == 1) pass_turn();  // the first turn is the other's
    while (true) {
      wait_for_phase(shared_address(&shared_.queries_full[queries_.stage]), queries_.parity);
      const PrefillItem item = shared_.items[queries_.stage];
      if (item.num_lines == 0) return;
      attend(item);
    }
  }

 private:
  __device__ void attend(const PrefillItem& item) {
    const std::int32_t group_line = item.first_line + group_ * kGroupLines;
    const std::int32_t first_position = item.position(params_, group_line);
    const std::int32_t last_position = item.position(params_, group_line + kGroupLines - 1);
    // What every line of the warpgroup reads.
    const ReadRange common{read_range(params_, last_position, last_position).after, first_position};
    const std::int32_t line = group_line + warp_ * 16 + lane_ / 4;
    ReadRange ranges[2];
    for (int i = 0; i < 2; ++i) {
      const std::int32_t position = item.position(params_, line + 8 * i);
      ranges[i] = read_range(params_, position, position);
    }

    Scores scores;
    Weights weights;
    Outputs o = {};
    SoftmaxLines lines;
    float shrink[2];
    TileHead head = next_keys();
    const bool reads = head.num_blocks > 0;
    if (reads) {
      show_copies();
      begin_products();
      score(scores);
      commit_products();
      wait_for_products<0>();
      hold(scores);
      mask(head, common, ranges, scores);
      release_keys();
      static_cast<void>(lines.weigh(scores, scale_, shrink));  // there are no sums yet
      round(scores, weights);
      for (head = next_keys(); head.num_blocks > 0;) {
        wait_for_values();  // of the tile before
        show_copies();
        take_turn();
        begin_products();
        score(scores);
        commit_products();
        add_values(weights, o);
        commit_products();
        pass_turn();
        wait_for_products<1>();
        hold(scores);
        mask(head, common, ranges, scores);
        release_keys();
        const bool shrinks = lines.weigh(scores, scale_, shrink);
        // Else the compiler moves powers behind the wait for outputs, which are not ready yet.
        head = next_keys(lines.zero());
        wait_for_products<0>();
        hold(o);
        release_values();
        if (shrinks) scale(o, shrink);
        round(scores, weights);
      }
    }
    release_keys();  // of the end of the item
    release(&shared_.queries_free[queries_.stage]);
    queries_.advance();
    if (reads) {
      wait_for_values();
      show_copies();
      begin_products();
      add_values(weights, o);
      commit_products();
      wait_for_products<0>();
      hold(o);
      release_values();
    }
    write(item, line, lines, o);
  }

  /// Pieces that threads copied; boxes come the way that tensor cores read.
  static __device__ void show_copies() {
    if constexpr (!Shape::kComesInBoxes) show_tensor_cores();
  }
  __device__ void take_turn() { wait_among<kTurnThreads>(kFirstTurnBarrier + group_); }
  __device__ void pass_turn() { arrive_among<kTurnThreads>(kFirstTurnBarrier + 1 - group_); }

  /// Waits for keys, and says of which tile; not before `zero` is known.
  __device__ TileHead next_keys(std::uint32_t zero = 0) {
    wait_for_phase(shared_address(&shared_.keys_full[keys_.stage]), keys_.parity ^ zero);
    return shared_.heads[keys_.stage];
  }
  __device__ void wait_for_values() {
    wait_for_phase(shared_address(&shared_.values_full[values_.stage]), values_.parity);
  }
  __device__ void release_keys() {
    release(&shared_.keys_free[keys_.stage]);
    keys_.advance();
  }
  __device__ void release_values() {
    release(&shared_.values_free[values_.stage]);
    values_.advance();
  }
  __device__ void release(std::uint64_t* barrier) {
    __syncwarp();
    if (lane_ == 0) arrive(shared_address(barrier));
  }

  /// Starts scores = q . k of the keys whose turn it is.
  __device__ void score(Scores& scores) {
    const Operand q = operand_at(
        memory_ + queries_.stage * Shape::kQueryStageBytes + group_ * Shape::kGroupQueryBytes, 0);
    const Operand keys = operand_at(memory_ + Shape::kKeysAt + keys_.stage * Shape::kTileBytes,
                                    Shape::kKeyBlockBytes);
    hold(scores);
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      constexpr int kSteps = kBlockColumns / 16;  // of a block
      multiply_group<Number>(
          scores, q + i / kSteps * (Shape::kQueryBlockBytes / 16) + i % kSteps * kNextColumns,
          keys + i * kNextRows, i > 0 ? 1 : 0);
    }
  }

  /// Starts o += weights . v of the values whose turn it is.
  __device__ void add_values(const Weights& weights, Outputs& o) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const Operand values =
          operand_at(memory_ + Shape::kValuesAt + values_.stage * Shape::kTileBytes +
                         part * (kPartColumns / kBlockColumns) * Shape::kValueBlockBytes,
                     Shape::kValueBlockBytes);
      hold(o[part]);
#pragma unroll
      for (int i = 0; i < kSlots / 16; ++i) {
        multiply_group<Number>(o[part], weights + 4 * i, values + i * kNextRows);
      }
    }
  }
  static __device__ void hold(Outputs& o) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) cuda::hold(o[part]);
  }
  template <int kCount>
  static __device__ void hold(float (&sums)[kCount]) {
    cuda::hold(sums);
  }

  /// Hides the slots that a line may not read, where not all lines read the whole tile.
  __device__ void mask(const TileHead& head, const ReadRange& common, const ReadRange (&ranges)[2],
                       Scores& scores) {
    if (head.num_blocks == Shape::kTileBlocks && head.span.highest <= common.last &&
        head.span.lowest > common.after) {
      return;
    }
    const std::int32_t* positions = shared_.positions[keys_.stage] + 2 * (lane_ % 4);
#pragma unroll
    for (int j = 0; j < kSlots / 8; ++j) {
      int2 two = *reinterpret_cast<const int2*>(positions + 8 * j);
      if (8 * j / Shape::kBlockSlots >= head.num_blocks) two = {kNoPosition, kNoPosition};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& even = scores[4 * j + 2 * i];
        float& odd = scores[4 * j + 2 * i + 1];
        even = ranges[i].contains(two.x) ? even : -INFINITY;
        odd = ranges[i].contains(two.y) ? odd : -INFINITY;
      }
    }
  }

  static __device__ void scale(Outputs& o, const float (&factors)[2]) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int j = 0; j < kPartColumns / 2; ++j) o[part][j] *= factors[j / 2 % 2];
    }
  }

  /// Sums of 16 columns become the left factor of a product over them.
  static __device__ void round(const Scores& scores, Weights& weights) {
#pragma unroll
    for (int j = 0; j < kSlots / 4; ++j) {
      weights[j] = pack<Number>(scores[2 * j], scores[2 * j + 1]);
    }
  }

  __device__ void write(const PrefillItem& item, std::int32_t first_line, const SoftmaxLines& lines,
                        const Outputs& o) {
    constexpr float kLn2 = 0.693147180559945f;
    const int t = lane_ % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float total = lines.total[i];
      total += __shfl_xor_sync(kWholeWarp, total, 1);
      total += __shfl_xor_sync(kWholeWarp, total, 2);
      const std::int32_t line = first_line + 8 * i;
      if (line >= item.num_lines) continue;
      const std::int64_t place = item.place(params_, line);
      const float factor = total > 0.0f ? 1.0f / total : 0.0f;
      float* to = params_.o + place * kDim + 2 * t;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j) {
        const float* sums = o[j / (kPartColumns / 8)] + 4 * (j % (kPartColumns / 8)) + 2 * i;
        *reinterpret_cast<float2*>(to + 8 * j) = {sums[0] * factor, sums[1] * factor};
      }
      if (t == 0) {
        params_.lse[place] = total > 0.0f ? (lines.base[i] + log2f(total)) * kLn2 : -INFINITY;
      }
    }
  }

  const PrefillParams& params_;
  PrefillShared<Shape>& shared_;
  std::uint32_t memory_;
  int group_;
  int warp_;
  int lane_;
  float scale_;  // that exponents are to base 2
  RingPlace<Shape::kQueryStages> queries_;
  RingPlace<Shape::kKeyStages> keys_;
  RingPlace<Shape::kValueStages> values_;
};

}  // namespace pikv::kernels::cuda
