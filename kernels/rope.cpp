// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void rope_table(Exec& exec, const RopeTableArgs& args) {
  const auto expected = std::array{args.positions.extent(0), args.inverse_frequencies.extent(0)};
  require(args.cos.extents == expected && args.sin.extents == expected, "rope_table",
          "cos and sin must be [", expected[0], ", ", expected[1], "]");
  if (args.cos.size() == 0) return;
  run_on(exec, args, cpu::rope_table, cuda::rope_table);
}

void rope(Exec& exec, const RopeArgs& args) {
  require(args.x.extent(2) % 2 == 0, "rope", "head_dim = ", args.x.extent(2), " is odd");
  const auto expected = std::array{args.x.extent(0), args.x.extent(2) / 2};
  require(args.cos.extents == expected && args.sin.extents == expected, "rope",
          "cos and sin must be [", expected[0], ", ", expected[1], "]");
  if (args.x.size() == 0) return;
  run_on(exec, args, cpu::rope, cuda::rope);
}

}  // namespace pikv::kernels
