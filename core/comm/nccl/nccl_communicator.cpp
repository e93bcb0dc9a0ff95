// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The communicator over NCCL. NCCL is used non-blocking, and an operation is over when its work on
// the stream is: both are polled against one deadline, so that no call of ours can hang. After a
// failure the NCCL communicator is aborted, which also ends its kernels, and every later call
// throws CommError.
//
// Multicast over NVLink (NVLS) stays off: it needs permissions of the fabric manager that shared
// hosts lack, and NCCL then fails instead of doing without. A user who has them sets
// NCCL_NVLS_ENABLE=1.
#include <nccl.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cuda/context.cuh"

namespace pikv {
namespace {

using Clock = std::chrono::steady_clock;

/// Aborting is the one way to end an NCCL communicator that waits for no peer.
using UniqueComm = cuda::UniqueHandle<ncclComm_t, &ncclCommAbort>;

[[nodiscard]] bool accepted(ncclResult_t result) {
  return result == ncclSuccess || result == ncclInProgress;
}

[[nodiscard]] ncclRedOp_t to_nccl(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMin:
      return ncclMin;
    case ReduceOp::kMax:
      return ncclMax;
  }
  throw InvalidArgument("all_reduce: unknown reduction");
}

template <class T>
constexpr ncclDataType_t kNcclType = ncclUint8;
template <>
constexpr ncclDataType_t kNcclType<float> = ncclFloat32;
template <>
constexpr ncclDataType_t kNcclType<double> = ncclFloat64;
template <>
constexpr ncclDataType_t kNcclType<std::int64_t> = ncclInt64;

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, Exec& exec, std::chrono::milliseconds deadline)
      : Communicator(host.rank(), host.size()),
        host_(host),
        exec_(exec),
        deadline_(deadline),
        token_(Device::kCuda, 1),
        counts_(Device::kCuda, 2 * static_cast<std::size_t>(host.size())) {
    const std::int64_t zero = 0;
    copy_bytes(exec_, token_.data(), Device::kCuda, &zero, Device::kCpu, sizeof(zero));
    connect();
  }

  ~NcclCommunicator() override {
    if (std::uncaught_exceptions() > 0) return;  // peers may be gone: abort, wait for nobody
    try {
      close();
    } catch (const std::exception&) {  // the peers left first; close() has aborted
    }
  }

  [[nodiscard]] std::string_view name() const override { return "nccl"; }
  [[nodiscard]] Device device() const override { return Device::kCuda; }

  void abort_job(int exit_code) override {
    comm_.reset();
    host_.abort_job(exit_code);
  }

 private:
  void do_barrier() override {
    run("barrier", [&] {
      return ncclAllReduce(token_.data(), token_.data(), 1, ncclInt64, ncclSum, comm_.get(),
                           stream());
    });
  }

  void do_broadcast(std::span<std::byte> data, int root) override {
    if (data.empty()) return;
    run("broadcast", [&] {
      return ncclBroadcast(data.data(), data.data(), data.size(), ncclUint8, root, comm_.get(),
                           stream());
    });
  }

  void do_all_reduce(std::span<double> data, ReduceOp op) override { all_reduce_as(data, op); }
  void do_all_reduce(std::span<float> data, ReduceOp op) override { all_reduce_as(data, op); }
  void do_all_reduce(std::span<std::int64_t> data, ReduceOp op) override {
    all_reduce_as(data, op);
  }

  void do_all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    if (mine.empty()) return;
    run("all_gather", [&] {
      return ncclAllGather(mine.data(), all.data(), mine.size(), ncclUint8, comm_.get(), stream());
    });
  }

  void do_all_to_all_v(std::vector<Message>& send, std::vector<Message>& received,
                       std::string_view what) override {
    const std::string operation = concat("all_to_all_v (", what, ")");
    const std::vector<std::int64_t> sizes = exchange_sizes(send, operation);
    for (int peer = 0; peer < size(); ++peer) {
      const auto i = static_cast<std::size_t>(peer);
      if (peer != rank()) received[i].resize_discard(static_cast<std::size_t>(sizes[i]));
    }
    exchange(operation, [&](std::size_t i, int peer) {
      ncclResult_t result = ncclSuccess;
      if (send[i].size() > 0) {
        result = ncclSend(send[i].data(), send[i].size(), ncclUint8, peer, comm_.get(), stream());
      }
      if (accepted(result) && received[i].size() > 0) {
        result = ncclRecv(received[i].data(), received[i].size(), ncclUint8, peer, comm_.get(),
                          stream());
      }
      return result;
    });
    const auto mine = static_cast<std::size_t>(rank());
    std::swap(send[mine], received[mine]);
  }

  /// The sizes in bytes of the messages that come from each rank.
  std::vector<std::int64_t> exchange_sizes(const std::vector<Message>& send,
                                           const std::string& operation) {
    std::vector<std::int64_t> sizes(send.size());
    for (std::size_t i = 0; i < send.size(); ++i) {
      sizes[i] = static_cast<std::int64_t>(send[i].size());
    }
    const std::size_t bytes = sizes.size() * sizeof(std::int64_t);
    std::int64_t* to_send = counts_.data();
    std::int64_t* to_receive = counts_.data() + sizes.size();
    copy_bytes(exec_, to_send, Device::kCuda, sizes.data(), Device::kCpu, bytes);
    exchange(operation, [&](std::size_t i, int peer) {
      const ncclResult_t result = ncclSend(to_send + i, 1, ncclInt64, peer, comm_.get(), stream());
      if (!accepted(result)) return result;
      return ncclRecv(to_receive + i, 1, ncclInt64, peer, comm_.get(), stream());
    });
    copy_bytes(exec_, sizes.data(), Device::kCpu, to_receive, Device::kCuda, bytes);
    return sizes;
  }

  template <class T>
  void all_reduce_as(std::span<T> data, ReduceOp op) {
    if (data.empty()) return;
    run("all_reduce", [&] {
      return ncclAllReduce(data.data(), data.data(), data.size(), kNcclType<T>, to_nccl(op),
                           comm_.get(), stream());
    });
  }

  /// Runs `transfer(index, peer)` for all peers but this rank, as one group.
  template <class Transfer>
  void exchange(const std::string& operation, const Transfer& transfer) {
    if (size() == 1) return;
    run(operation, [&] {
      ncclResult_t result = ncclGroupStart();
      for (int peer = 0; peer < size() && accepted(result); ++peer) {
        if (peer != rank()) result = transfer(static_cast<std::size_t>(peer), peer);
      }
      const ncclResult_t end = ncclGroupEnd();  // also after a failure: groups nest per thread
      return accepted(result) ? end : result;
    });
  }

  /// Enqueues by `enqueue()` and waits until the work is done.
  template <class Enqueue>
  void run(std::string_view operation, const Enqueue& enqueue) {
    exec_.cuda_context().activate();
    if (comm_.get() == nullptr) {
      throw CommError(concat("nccl ", operation, ": the communicator was aborted by an earlier ",
                             "failure", place()));
    }
    const Clock::time_point end = Clock::now() + deadline_;
    wait_enqueued(operation, enqueue(), end);
    wait_stream(operation, end);
  }

  /// Waits for NCCL's host side: only then is the work on the stream.
  void wait_enqueued(std::string_view operation, ncclResult_t result, Clock::time_point end) {
    while (result == ncclInProgress) {
      check_time(operation, end);
      result = state();
    }
    if (result != ncclSuccess) fail(operation, result);
  }

  void wait_stream(std::string_view operation, Clock::time_point end) {
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

  [[nodiscard]] ncclResult_t state() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t result = ncclCommGetAsyncError(comm_.get(), &state);
    return result == ncclSuccess ? state : result;
  }

  void check_time(std::string_view operation, Clock::time_point end) {
    if (Clock::now() >= end) {
      comm_.reset();
      throw Timeout(concat("nccl ", operation, ": not complete after ", deadline_.count(),
                           " ms; a peer did not take part", place()));
    }
    std::this_thread::yield();
  }

  [[noreturn]] void fail(std::string_view operation, ncclResult_t result) {
    const std::string detail = ncclGetLastError(comm_.get());
    comm_.reset();
    throw CommError(
        concat("nccl ", operation, ": ", ncclGetErrorString(result), "; ", detail, place()));
  }

  [[nodiscard]] std::string place() const { return concat(" (rank ", rank(), " of ", size(), ")"); }

  [[nodiscard]] cudaStream_t stream() const { return exec_.cuda_context().stream.get(); }

  void connect() {
    setenv("NCCL_NVLS_ENABLE", "0", 0);  // see the top of the file; a value of the user's stays
    ncclUniqueId id{};
    if (rank() == 0) {
      if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess) {
        fail("bootstrap", result);
      }
    }
    host_.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);

    exec_.cuda_context().activate();
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const Clock::time_point end = Clock::now() + deadline_;
    ncclComm_t comm = nullptr;
    const ncclResult_t result = ncclCommInitRankConfig(&comm, size(), id, rank(), &config);
    comm_ = UniqueComm(comm);
    wait_enqueued("connect", result, end);
  }

  /// Leaves together with the peers, which is what lets them finish their last operation.
  void close() {
    if (comm_.get() == nullptr) return;
    exec_.cuda_context().activate();
    wait_enqueued("close", ncclCommFinalize(comm_.get()), Clock::now() + deadline_);
    static_cast<void>(ncclCommDestroy(comm_.release()));
  }

  Communicator& host_;
  Exec& exec_;
  std::chrono::milliseconds deadline_;
  DeviceBuffer<std::int64_t> token_;   // what a barrier reduces
  DeviceBuffer<std::int64_t> counts_;  // [2, R]: sizes to send, sizes to receive
  UniqueComm comm_;
};

}  // namespace

bool nccl_is_built() { return true; }

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Exec& exec,
                                                     std::chrono::milliseconds deadline) {
  require(exec.device() == Device::kCuda, "make_nccl_communicator",
          "exec runs on the CPU; NCCL needs a GPU");
  require(host.device() == Device::kCpu, "make_nccl_communicator",
          "host must be a communicator over host memory, not ", host.name());
  return std::make_unique<NcclCommunicator>(host, exec, deadline);
}

}  // namespace pikv
