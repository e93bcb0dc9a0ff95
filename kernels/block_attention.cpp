// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/block_attention.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void block_attention(Exec& exec, const BlockAttentionArgs& args) {
  require(args.group > 0, "block_attention", "group = ", args.group, " is not positive");
  for (const KeyBlock& block : args.blocks) {
    require(block.keys.size() > 0, "block_attention", "a block has no keys");
    require(block.num_zero_keys >= 0, "block_attention", "num_zero_keys = ", block.num_zero_keys,
            " is negative");
  }
  run_on(exec, args, cpu::block_attention, cuda::block_attention);
}

}  // namespace pikv::kernels
