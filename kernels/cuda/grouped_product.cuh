// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The products of the experts of a mixture on tensor cores: pairs of rows and experts, in the order
// of experts, are cut into tiles of rows of one expert, which the GPU finds itself. Rows are given
// as bfloat16 parts (bf16_parts.cuh), weights are bfloat16; sums are in float32. Deterministic.
//
// On Hopper, shapes that fit it have a kernel of their own (grouped_wgmma.cuh). The other one is an
// Ampere pipeline (cp.async, ldmatrix, mma.sync), which runs from sm_80 on: 128 rows x 256 outputs
// a block, 64 x 64 a warp, so that a matrix in shared memory is read half as often as by warps of
// 64 x 32.
#pragma once

#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/experts_order.cuh"
#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

inline constexpr int kTileRows = 128;

struct GroupedProduct {
  const BFloat16* parts[kMaxBf16Parts];  // of rows, each [*, num_inputs]; the smallest first
  std::int32_t num_parts;
  std::int32_t num_chosen;         // K
  const ExpertMatrices* table;     // [E]
  ExpertOrder order;               // in groups of kTileRows, of P pairs at most
  std::int64_t num_pairs;          // P
  std::int64_t num_inputs;         // a multiple of 8
  std::int64_t num_outputs;        // a multiple of 8
  BFloat16* inner[kMaxBf16Parts];  // of gate and up: their parts, each [P, width], in the order
  // Of down: [P, hidden], each pair in its own place; rounded where there is one part.
  float* out;
  BFloat16* rounded_out;
};

/// silu(gate x) * (up x) of the rows of x that pairs are of: `parts` are [T, hidden], and `inner`
/// receives as many.
void multiply_gate_up(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles);
/// down x of pairs: `parts` are [P, width], in the order.
void multiply_down(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles);

/// Whether the GPU's blocks may have the shared memory that these take.
[[nodiscard]] bool can_group_products(const CudaContext& context);

}  // namespace pikv::kernels::cuda
