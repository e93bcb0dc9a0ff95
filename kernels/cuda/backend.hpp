// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The CUDA half of Exec and of device memory, behind functions that name no CUDA type. Without CUDA
// the same symbols come from kernels/no_cuda and throw NotBuilt.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/exec.hpp"

namespace pikv::cuda {

/// A stream and the library handles on one GPU, which becomes the calling thread's current one.
/// Throws CudaError if there is no such GPU.
[[nodiscard]] std::shared_ptr<CudaContext> make_context(int device_idx);

/// What no other GPU has.
[[nodiscard]] std::array<std::byte, 16> uuid(const CudaContext& context);

/// Waits for everything enqueued on the context's stream.
void synchronize(CudaContext& context);

/// Of the context's GPU.
[[nodiscard]] GpuMemory memory(const CudaContext& context);

/// At least `bytes` bytes on the calling thread's current GPU, aligned to 256; with Access::kBoth
/// in managed memory that begins, and prefers to be, there. Throws OutOfMemory.
[[nodiscard]] void* allocate(std::size_t bytes, Access access);

/// Waits for all work of the GPU before it frees, so that running kernels keep their memory.
void release(void* data) noexcept;

/// Copies in the order of the context's stream. When it returns, host memory that was written may
/// be read and pageable host memory that was read may be reused; device to device is only enqueued.
void copy(CudaContext& context, void* to, Device to_device, const void* from, Device from_device,
          std::size_t bytes);

/// Zeros, in the order of the context's stream.
void clear(CudaContext& context, void* data, std::size_t bytes);

/// A copy on the GPU of host memory, which may be reused at once: see Exec::on_device.
[[nodiscard]] const void* upload(CudaContext& context, const void* items, std::size_t bytes);

/// A copy on the host of memory of the GPU, after all that was enqueued: see Exec::on_host. Throws
/// OutOfMemory.
[[nodiscard]] const void* download(CudaContext& context, const void* items, std::size_t bytes);

/// See Exec::record. To end it enqueues what was recorded; also where it throws, it has ended.
void begin_recording(CudaContext& context);
void end_recording(CudaContext& context);
[[nodiscard]] bool is_recording(const CudaContext& context);
[[nodiscard]] GraphCounts graph_counts(const CudaContext& context);

/// One line a GPU; none without a GPU or a driver.
[[nodiscard]] std::vector<std::string> describe_devices();

[[nodiscard]] bool is_built();

}  // namespace pikv::cuda
