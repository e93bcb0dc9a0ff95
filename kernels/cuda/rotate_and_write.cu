// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rotate_head.cuh"
#include "kernels/cuda/write_slot.cuh"
#include "kernels/rotate_and_write.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

struct Params {
  RotateParams queries;
  RotateParams keys;
  WriteParams writes;
};

/// One warp a head and row of the queries, then one a write.
__global__ void __launch_bounds__(kBlockThreads)
    rotate_and_write_kernel(const __grid_constant__ Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  std::int64_t i =
      std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads;
  wait_for_previous();
  if (i < params.queries.num_head_rows) {
    rotate_head(params.queries, i, [](std::int64_t, float) {});
    return;
  }
  i -= params.queries.num_head_rows;
  if (i >= params.writes.num_writes) return;
  const KvWrite write = params.writes.writes[i];
  const SlotOfPage slot(params.writes.shape, write.page, write.slot);
  slot.put_rest(write.value, write.position, lane);
  rotate_head(params.keys, (write.key - params.keys.x) / (2 * params.keys.half_dim),
              [&](std::int64_t channel, float x) { slot.put_key(channel, x); });
}

}  // namespace

void rotate_and_write(Exec& exec, const RotateAndWriteArgs& args) {
  Params params{.queries = rotate_params(args.rotations.queries),
                .keys = rotate_params(args.rotations.keys),
                .writes = write_params(args.writes)};
  if (args.writes.on_host) {
    params.writes.writes = exec.on_device(
        std::span(args.writes.writes.data, static_cast<std::size_t>(args.writes.writes.size())));
  }
  const std::int64_t num_warps = params.queries.num_head_rows + params.writes.num_writes;
  if (num_warps == 0) return;
  launch_early(exec.cuda_context(), rotate_and_write_kernel, num_blocks(num_warps, kWarpsPerBlock),
               kBlockThreads, 0, params);
}

}  // namespace pikv::kernels::cuda
