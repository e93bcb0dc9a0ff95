// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"
#include "kernels/rms_norm.hpp"

namespace pikv::kernels {

void rope_table(Exec& exec, const RopeTableArgs& args) {
  const auto expected = std::array{args.positions.extent(0), args.inverse_frequencies.extent(0)};
  require(args.cos.extents == expected && args.sin.extents == expected, "rope_table",
          "cos and sin must be [", expected[0], ", ", expected[1], "]");
  if (args.cos.size() == 0) return;
  run_on(exec, args, cpu::rope_table, cuda::rope_table);
}

void rope(Exec& exec, const RopeArgs& args) { ropes(exec, {&args, 1}); }

void require_rotatable(std::span<const RopeArgs> all) {
  require(all.size() <= kMaxRopes, "rope", all.size(), " tensors exceed ", kMaxRopes);
  for (const RopeArgs& args : all) {
    require(args.x.extent(2) % 2 == 0, "rope", "head_dim = ", args.x.extent(2), " is odd");
    const auto expected = std::array{args.x.extent(0), args.x.extent(2) / 2};
    require(args.cos.extents == expected && args.sin.extents == expected, "rope",
            "cos and sin must be [", expected[0], ", ", expected[1], "]");
  }
}

void ropes(Exec& exec, std::span<const RopeArgs> all) {
  require_rotatable(all);
  if (exec.device() == Device::kCuda) {
    cuda::ropes(exec, all);
    return;
  }
  for (const RopeArgs& args : all) {
    if (args.x.size() == 0) continue;
    if (args.norm != nullptr) {
      const View<float, 2> heads{args.x.data,
                                 {args.x.extent(0) * args.x.extent(1), args.x.extent(2)}};
      rms_norm(exec, {.x = heads, .weight = args.norm, .eps = args.eps, .y = heads});
    }
    cpu::rope(exec, args);
  }
}

}  // namespace pikv::kernels
