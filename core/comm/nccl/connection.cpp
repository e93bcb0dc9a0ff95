// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/comm/nccl/connection.hpp"

#include <cstdlib>
#include <exception>
#include <span>
#include <thread>

#include "kernels/common/error.hpp"

namespace pikv {

NcclConnection::NcclConnection(Communicator& host, Exec& exec, std::chrono::milliseconds deadline)
    : rank_(host.rank()), size_(host.size()), exec_(exec), deadline_(deadline) {
  connect(host);
}

NcclConnection::~NcclConnection() {
  if (std::uncaught_exceptions() > 0) return;  // peers may be gone: abort, wait for nobody
  try {
    close();
  } catch (const std::exception&) {  // the peers left first; close() has aborted
  }
}

void NcclConnection::connect(Communicator& host) {
  setenv("NCCL_NVLS_ENABLE", "0", 0);  // see the header; a value of the user's stays
  ncclUniqueId id{};
  if (rank_ == 0) {
    if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
      fail("bootstrap", result);
    }
  }
  host.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);

  exec_.cuda_context().activate();
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const Clock::time_point end = Clock::now() + deadline_;
  ncclComm_t comm = nullptr;
  const ncclResult_t result = ncclCommInitRankConfig(&comm, size_, id, rank_, &config);
  comm_ = UniqueComm(comm);
  wait_enqueued("connect", result, end);
}

/// Leaves together with the peers, which is what lets them finish their last operation.
void NcclConnection::close() {
  if (comm_.get() == nullptr) return;
  exec_.cuda_context().activate();
  wait_enqueued("close", ncclCommFinalize(comm_.get()), Clock::now() + deadline_);
  static_cast<void>(ncclCommDestroy(comm_.release()));
}

void NcclConnection::enter(std::string_view operation) const {
  exec_.cuda_context().activate();
  if (comm_.get() == nullptr) {
    throw CommError(concat("nccl ", operation, ": the communicator was aborted by an earlier ",
                           "failure", place()));
  }
  cuda::flush_launches(exec_.cuda_context());
}

/// Waits for NCCL's host side: only then is the work on the stream.
void NcclConnection::wait_enqueued(std::string_view operation, ncclResult_t result,
                                   Clock::time_point end) {
  while (result == ncclInProgress) {
    check_time(operation, end);
    result = state();
  }
  if (result != ncclSuccess) fail(operation, result);
}

void NcclConnection::finish(std::string_view operation) {
  enter(operation);
  const Clock::time_point end = Clock::now() + deadline_;
  for (;;) {
    const cudaError_t status = cudaStreamQuery(stream());
    if (status == cudaSuccess) return;
    if (status != cudaErrorNotReady) {
      comm_.reset();
      cuda::check(status, "nccl");
    }
    if (const ncclResult_t result = state(); !accepted(result)) fail(operation, result);
    check_time(operation, end);
  }
}

ncclResult_t NcclConnection::state() const {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(comm_.get(), &state);
  return result == ncclSuccess ? state : result;
}

void NcclConnection::check_time(std::string_view operation, Clock::time_point end) {
  if (Clock::now() >= end) time_out(operation);
  std::this_thread::yield();
}

void NcclConnection::time_out(std::string_view operation) {
  comm_.reset();
  throw Timeout(concat("nccl ", operation, ": rank ", rank_, " waits for its peers after ",
                       deadline_.count(), " ms", place()));
}

void NcclConnection::fail(std::string_view operation, ncclResult_t result) {
  const std::string detail = ncclGetLastError(comm_.get());
  comm_.reset();
  throw CommError(
      concat("nccl ", operation, ": ", ncclGetErrorString(result), "; ", detail, place()));
}

std::string NcclConnection::place() const { return concat(" (rank ", rank_, " of ", size_, ")"); }

}  // namespace pikv
