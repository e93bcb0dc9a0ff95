// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What an Exec on a GPU owns, and how CUDA and cuBLAS faults become exceptions. Plain C++: the host
// compiler may include it.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <utility>

#include "kernels/common/error.hpp"

namespace pikv::cuda {

/// Owns a library handle and is no larger than it. A failure to destroy is ignored: it is the echo
/// of an earlier fault, which was reported.
template <class Handle, auto Destroy>
class UniqueHandle {
 public:
  UniqueHandle() = default;
  explicit UniqueHandle(Handle handle) : handle_(handle) {}
  ~UniqueHandle() { reset(); }

  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
  UniqueHandle(UniqueHandle&& other) noexcept : handle_(other.release()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  [[nodiscard]] Handle get() const { return handle_; }
  [[nodiscard]] Handle release() { return std::exchange(handle_, Handle{}); }
  void reset() noexcept {
    if (handle_ != Handle{}) static_cast<void>(Destroy(std::exchange(handle_, Handle{})));
  }

 private:
  Handle handle_{};
};

/// Device memory that operations of one context share, in the order of its stream.
inline constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;

/// Counters that are zero between operations: whoever counts with one puts it back.
inline constexpr std::int64_t kNumCounters = std::int64_t{1} << 15;
/// Device memory like the workspace that grows to what products of many rows ask for; see room_for.
struct ProductRoom {
  UniqueHandle<void*, &cudaFree> memory;
  std::size_t bytes = 0;
};

/// Such products take their rows in parts, so that no more than this is asked for.
inline constexpr std::int64_t kMaxProductRoomBytes = std::int64_t{256} << 20;

/// Arguments on their way to the GPU: they are laid into pinned memory and copied from there to
/// the same place of a buffer on the device. Both have two halves; the host enters one again when
/// the GPU has copied all that was in it.
///
/// Behind the halves is room for those of a recorded step, from its beginning in each: so arguments
/// of a step lie where those of the step before lay, and its launches stay as they are. What does
/// not fit goes into the halves.
struct UploadRing {
  static constexpr std::size_t kHalfBytes = std::size_t{16} << 20;
  static constexpr std::size_t kStepBegin = 2 * kHalfBytes;
  static constexpr std::size_t kBytes = kStepBegin + (std::size_t{16} << 20);

  UniqueHandle<void*, &cudaFreeHost> pinned;                 // kBytes
  UniqueHandle<void*, &cudaFree> on_device;                  // the same
  UniqueHandle<cudaEvent_t, &cudaEventDestroy> left[2];      // of each half, when the host left it
  UniqueHandle<cudaEvent_t, &cudaEventDestroy> step_copied;  // what a step sent
  std::size_t used = 0;                                      // bytes of both halves
  std::size_t sent = 0;                                      // of these, on their way to the GPU
  std::size_t step_used = kStepBegin;                        // end of what a step laid there
  std::size_t step_sent = kStepBegin;                        // of what is on its way
};

/// Pinned memory that results are copied to for the host, at the full speed of the bus; it grows to
/// what is asked for.
struct DownloadRoom {
  UniqueHandle<void*, &cudaFreeHost> pinned;
  std::size_t bytes = 0;
};

class Recorder;

/// Throws CudaError("what: reason (file:line)") unless `status` is success.
inline void check(cudaError_t status, const char* what,
                  std::source_location where = std::source_location::current()) {
  if (status != cudaSuccess) [[unlikely]] {
    throw CudaError(concat(what, ": ", cudaGetErrorName(status), ", ", cudaGetErrorString(status),
                           " (", where.file_name(), ":", where.line(), ")"));
  }
}

inline void check(cublasStatus_t status, const char* what,
                  std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) [[unlikely]] {
    throw CudaError(concat(what, ": ", cublasGetStatusName(status), ", ",
                           cublasGetStatusString(status), " (", where.file_name(), ":",
                           where.line(), ")"));
  }
}

/// After a launch: reports a refused configuration now. A fault inside the kernel appears at a
/// later call, because nothing waits here.
inline void check_launch(const char* operation,
                         std::source_location where = std::source_location::current()) {
  check(cudaGetLastError(), operation, where);
}

}  // namespace pikv::cuda

namespace pikv {

/// Everything enqueued through one context runs in order on its stream.
struct CudaContext {
  int device_idx;
  cuda::UniqueHandle<cudaStream_t, &cudaStreamDestroy> stream;
  cuda::UniqueHandle<cublasHandle_t, &cublasDestroy> blas;  // bound to `stream`
  cuda::UniqueHandle<void*, &cudaFree> workspace;           // kWorkspaceBytes
  cuda::UniqueHandle<void*, &cudaFree> counters;            // [kNumCounters] unsigned
  cuda::ProductRoom product_room;
  cuda::UploadRing uploads;
  cuda::DownloadRoom downloads;
  int num_multiprocessors;
  bool launches_early;  // whether kernels may overlap the end of the one before
  std::int64_t launches_since_page_write = 0;  // of sealed pages, those of launch_early
  std::unique_ptr<cuda::Recorder> recorder;

  /// Makes this GPU the calling thread's current one.
  void activate() const { cuda::check(cudaSetDevice(device_idx), "cudaSetDevice"); }
};

namespace cuda {

/// At least `bytes` bytes, 256-byte aligned, for one operation in the order of the stream; contents
/// undefined. To grow, it waits for the stream. Throws OutOfMemory.
[[nodiscard]] void* room_for(CudaContext& context, std::size_t bytes);

/// Copies what was laid into the ring since the last time: operations do it before they launch, so
/// that all arguments of one go together.
void send_uploads(CudaContext& context);

/// Enqueues launches that a recorder (recording.cuh) has listed: for who is about to use the stream
/// by other means than a launch.
void flush_launches(CudaContext& context);

}  // namespace cuda
}  // namespace pikv
