// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention that keys receive inside blocks, without a mask and without a scale (Compactor, Chari
// et al. 2025, 2507.08143): with the G queries of every row r of a block,
//
//   received_i += sum_r sum_g exp(q_rg . k_i) / sum_j exp(q_rg . k_j),
//
// j over all keys of the block. The outputs of this attention are never computed.
//
// Cost: 2 G D flops a row and key (CUDA: twice that); no more than a tile of weights exists at a
// time. Deterministic for any number of threads, and on CUDA. CUDA: D at most 1024; blocks lie on
// the host and all that they point to on the device, the pointers to rows included.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// Of one KV head.
struct KeyBlock {
  std::span<const float* const> queries;  // rows, each [G, D]
  View<const float, 2> keys;              // [n, D], not empty
  std::int64_t num_zero_keys = 0;         // keys of zeros that are attended to beside these
  float* received = nullptr;              // [n], added to
};

struct BlockAttentionArgs {
  std::span<const KeyBlock> blocks;  // no two write the same
  std::int64_t group;                // G
};
void block_attention(Exec& exec, const BlockAttentionArgs& args);

namespace cpu {
void block_attention(Exec& exec, const BlockAttentionArgs& args);
}
namespace cuda {
void block_attention(Exec& exec, const BlockAttentionArgs& args);
}

}  // namespace pikv::kernels
