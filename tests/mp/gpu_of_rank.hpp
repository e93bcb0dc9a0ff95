// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Which GPU a rank of a test runs on. Ranks that exchange rows by kernels can share GPUs, in turns
// of a few milliseconds, so that four run where there is one; NCCL wants one for each.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/common/exec.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {

/// Index of this rank's GPU. None where there is no GPU, or none for each and they may not share:
/// the same on every rank, for all must skip together, or some would wait for those that did.
[[nodiscard]] inline std::optional<int> gpu_of_rank(bool may_share) {
  auto num_gpus = static_cast<std::int64_t>(describe_cuda_devices().size());
  world().all_reduce(std::span(&num_gpus, 1), ReduceOp::kMin);
  if (num_gpus < (may_share ? 1 : world().size())) return std::nullopt;
  return world().rank() % static_cast<int>(num_gpus);
}

}  // namespace pikv
