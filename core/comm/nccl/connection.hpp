// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The ranks of a job as NCCL knows them, and the errors and deadlines of what they do together.
// NCCL is used non-blocking, and the work on the stream is polled, both against one deadline, so
// that no call of ours can hang. After a failure the NCCL communicator is aborted, which also ends
// its kernels, and every later call throws CommError.
//
// Multicast over NVLink (NVLS) stays off: it needs permissions of the fabric manager that shared
// hosts lack, and NCCL then fails instead of doing without. A user who has them sets
// NCCL_NVLS_ENABLE=1.
#pragma once

#include <nccl.h>

#include <chrono>
#include <string>
#include <string_view>

#include "core/comm/communicator.hpp"
#include "kernels/cuda/context.cuh"

namespace pikv {

[[nodiscard]] inline bool accepted(ncclResult_t result) {
  return result == ncclSuccess || result == ncclInProgress;
}

class NcclConnection {
 public:
  /// A collective. Both references must outlive this object.
  NcclConnection(Communicator& host, Exec& exec, std::chrono::milliseconds deadline);
  /// Leaves together with the peers; while an exception is on its way, without them.
  ~NcclConnection();
  NcclConnection(const NcclConnection&) = delete;
  NcclConnection& operator=(const NcclConnection&) = delete;

  [[nodiscard]] ncclComm_t comm() const { return comm_.get(); }
  [[nodiscard]] cudaStream_t stream() const { return exec_.cuda_context().stream.get(); }
  [[nodiscard]] std::chrono::milliseconds deadline() const { return deadline_; }

  /// Enqueues by `f()` and waits until NCCL has put it on the stream.
  template <class F>
  void enqueue(std::string_view operation, const F& f) {
    enter(operation);
    wait_enqueued(operation, f(), Clock::now() + deadline_);
  }

  /// The same for `transfer(peer)` of all peers but this rank, as one group.
  template <class Transfer>
  void enqueue_group(std::string_view operation, const Transfer& transfer) {
    if (size_ == 1) return;
    enqueue(operation, [&] {
      ncclResult_t result = ncclGroupStart();
      for (int peer = 0; peer < size_ && accepted(result); ++peer) {
        if (peer != rank_) result = transfer(peer);
      }
      const ncclResult_t end = ncclGroupEnd();  // also after a failure: groups nest per thread
      return accepted(result) ? end : result;
    });
  }

  /// Waits until the work on the stream is done.
  void finish(std::string_view operation);

  /// For who waits in its own way: what finish() throws past the deadline.
  [[noreturn]] void time_out(std::string_view operation);

  /// Without the peers.
  void abort() noexcept { comm_.reset(); }

 private:
  using Clock = std::chrono::steady_clock;
  /// Aborting is the one way to end an NCCL communicator that waits for no peer.
  using UniqueComm = cuda::UniqueHandle<ncclComm_t, &ncclCommAbort>;

  void connect(Communicator& host);
  void close();
  void enter(std::string_view operation) const;
  void wait_enqueued(std::string_view operation, ncclResult_t result, Clock::time_point end);
  void check_time(std::string_view operation, Clock::time_point end);
  [[nodiscard]] ncclResult_t state() const;
  [[noreturn]] void fail(std::string_view operation, ncclResult_t result);
  [[nodiscard]] std::string place() const;

  int rank_;
  int size_;
  Exec& exec_;
  std::chrono::milliseconds deadline_;
  UniqueComm comm_;
};

}  // namespace pikv
