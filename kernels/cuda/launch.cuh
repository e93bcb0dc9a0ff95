// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every launcher needs: the stream, the grid, and the way from a run-time extent to a
// compile-time one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/common/exec.hpp"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/recording.cuh"

namespace pikv::kernels::cuda {

using pikv::cuda::check_launch;

/// For all but launch() and launch_early(): the stream, with its GPU made current, and launches
/// that were recorded and the arguments of Exec::on_device on their way.
[[nodiscard]] inline cudaStream_t stream_of(CudaContext& context) {
  context.activate();
  pikv::cuda::flush_launches(context);
  pikv::cuda::send_uploads(context);
  return context.stream.get();
}
[[nodiscard]] inline cudaStream_t stream_of(const Exec& exec) {
  return stream_of(exec.cuda_context());
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

template <class Params>
void launch_or_record(CudaContext& context, void (*kernel)(Params), dim3 num_blocks,
                      int num_threads, std::size_t shared_bytes, bool early, const Params& params) {
  static_assert(std::is_trivially_copyable_v<Params>);
  pikv::cuda::launch(context,
                     {.kernel = reinterpret_cast<const void*>(kernel),
                      .num_blocks = {num_blocks.x, num_blocks.y, num_blocks.z},
                      .num_threads = static_cast<unsigned>(num_threads),
                      .shared_bytes = static_cast<unsigned>(shared_bytes),
                      .params_bytes = static_cast<unsigned>(sizeof(Params)),
                      .early = early},
                     &params);
}

/// Launches a kernel, with what was uploaded for it.
template <class Params>
void launch(CudaContext& context, void (*kernel)(Params), dim3 num_blocks, int num_threads,
            std::size_t shared_bytes, const Params& params) {
  launch_or_record(context, kernel, num_blocks, num_threads, shared_bytes, false, params);
}

/// The same for a kernel whose blocks may take their places while the one before it on the stream
/// still runs, where the GPU can (sm_90 on); the kernel begins with wait_for_previous().
template <class Params>
void launch_early(CudaContext& context, void (*kernel)(Params), dim3 num_blocks, int num_threads,
                  std::size_t shared_bytes, const Params& params) {
  launch_or_record(context, kernel, num_blocks, num_threads, shared_bytes, context.launches_early,
                   params);
  ++context.launches_since_page_write;
}

/// Lets blocks of a kernel have so many bytes of dynamic shared memory, more than the 48 KiB that
/// all may. Told once a GPU and thread: that takes the host longer than the launch. Throws
/// CudaError naming `operation`.
template <auto kKernel>
void allow_shared_bytes(const CudaContext& context, std::size_t bytes, const char* operation) {
  thread_local int device_idx = -1;
  if (device_idx == context.device_idx) return;
  pikv::cuda::check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(bytes)),
                    operation);
  pikv::cuda::check(cudaFuncSetAttribute(kKernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                         cudaSharedmemCarveoutMaxShared),
                    operation);
  device_idx = context.device_idx;
}

/// Calls f.template operator()<N>() with the first N of kValues (ascending) that is at least
/// `value`. Throws InvalidArgument naming `operation` and `what` if all are smaller.
template <int... kValues, class F>
void dispatch_at_least(std::int64_t value, const char* operation, const char* what, F&& f) {
  const bool found = ((value <= kValues ? (f.template operator()<kValues>(), true) : false) || ...);
  require(found, operation, what, " = ", value, " exceeds ", std::max({kValues...}));
}

}  // namespace pikv::kernels::cuda
