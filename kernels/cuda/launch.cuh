// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every launcher needs: the stream, the grid, and the way from a run-time extent to a
// compile-time one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/cuda/context.cuh"

namespace pikv::kernels::cuda {

using pikv::cuda::check_launch;

/// exec's stream, with its GPU made current and the arguments of Exec::on_device on their way.
[[nodiscard]] inline cudaStream_t stream_of(const Exec& exec) {
  exec.cuda_context().activate();
  pikv::cuda::send_uploads(exec.cuda_context());
  return exec.cuda_context().stream.get();
}

/// Blocks for `num_items` items. All kernels stride by their grid, so the cap only keeps the number
/// inside what a launch accepts.
[[nodiscard]] inline unsigned num_blocks(std::int64_t num_items, std::int64_t items_per_block) {
  constexpr std::int64_t kMaxBlocks = std::int64_t{1} << 30;
  return static_cast<unsigned>(
      std::min((num_items + items_per_block - 1) / items_per_block, kMaxBlocks));
}

/// Whether reads of 16 bytes may begin there.
[[nodiscard]] inline bool lies_at_16_bytes(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

/// Launches a kernel whose blocks may take their places while the one before it on the stream still
/// runs, where the GPU can (sm_90 on); the kernel begins with wait_for_previous().
template <class Params>
void launch_early(CudaContext& context, void (*kernel)(Params), dim3 num_blocks, int num_threads,
                  std::size_t shared_bytes, const Params& params) {
  context.activate();
  pikv::cuda::send_uploads(context);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = num_blocks;
  config.blockDim = dim3(static_cast<unsigned>(num_threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream.get();
  config.attrs = &early;
  config.numAttrs = context.launches_early ? 1 : 0;
  pikv::cuda::check(cudaLaunchKernelEx(&config, kernel, params), "launch");
  ++context.launches_since_page_write;
}

/// Calls f.template operator()<N>() with the first N of kValues (ascending) that is at least
/// `value`. Throws InvalidArgument naming `operation` and `what` if all are smaller.
template <int... kValues, class F>
void dispatch_at_least(std::int64_t value, const char* operation, const char* what, F&& f) {
  const bool found = ((value <= kValues ? (f.template operator()<kValues>(), true) : false) || ...);
  require(found, operation, what, " = ", value, " exceeds ", std::max({kValues...}));
}

}  // namespace pikv::kernels::cuda
