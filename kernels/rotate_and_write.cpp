// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotate_and_write.hpp"

#include <array>

#include "kernels/common/error.hpp"

namespace pikv::kernels {

void rotate_and_write(Exec& exec, const RotateAndWriteArgs& args) {
  const auto& [queries, keys] = args.rotations;
  const std::int64_t num_keys = keys.x.extent(0) * keys.x.extent(1);
  require(args.writes.writes.size() == num_keys, "rotate_and_write", args.writes.writes.size(),
          " writes of ", num_keys, " keys");
  if (exec.device() == Device::kCuda) {
    require_rotatable(std::array{queries, keys});
    require_writable(args.writes);
    cuda::rotate_and_write(exec, args);
    return;
  }
  rotate(exec, args.rotations);
  write_slots(exec, args.writes);
}

void rotate(Exec& exec, const Rotations& rotations) {
  ropes(exec, std::array{rotations.queries, rotations.keys});
}

}  // namespace pikv::kernels
