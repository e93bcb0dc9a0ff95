// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The communicator over NCCL: an operation is over when its work on the stream is.
#include <string>
#include <utility>

#include "core/comm/nccl/connection.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

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
        token_(Device::kCuda, 1),
        counts_(Device::kCuda, 2 * static_cast<std::size_t>(host.size())),
        connection_(host, exec, deadline) {
    const std::int64_t zero = 0;
    copy_bytes(exec_, token_.data(), Device::kCuda, &zero, Device::kCpu, sizeof(zero));
  }

  [[nodiscard]] std::string_view name() const override { return "nccl"; }
  [[nodiscard]] Device device() const override { return Device::kCuda; }

  [[nodiscard]] bool claim_report() override { return host_.claim_report(); }
  void abort_job(int exit_code) override {
    connection_.abort();
    host_.abort_job(exit_code);
  }

 private:
  void do_barrier() override {
    run("barrier", [&] {
      return ncclAllReduce(token_.data(), token_.data(), 1, ncclInt64, ncclSum, comm(), stream());
    });
  }

  void do_broadcast(std::span<std::byte> data, int root) override {
    if (data.empty()) return;
    run("broadcast", [&] {
      return ncclBroadcast(data.data(), data.data(), data.size(), ncclUint8, root, comm(),
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
      return ncclAllGather(mine.data(), all.data(), mine.size(), ncclUint8, comm(), stream());
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
        result = ncclSend(send[i].data(), send[i].size(), ncclUint8, peer, comm(), stream());
      }
      if (accepted(result) && received[i].size() > 0) {
        result =
            ncclRecv(received[i].data(), received[i].size(), ncclUint8, peer, comm(), stream());
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
      const ncclResult_t result = ncclSend(to_send + i, 1, ncclInt64, peer, comm(), stream());
      if (!accepted(result)) return result;
      return ncclRecv(to_receive + i, 1, ncclInt64, peer, comm(), stream());
    });
    copy_bytes(exec_, sizes.data(), Device::kCpu, to_receive, Device::kCuda, bytes);
    return sizes;
  }

  template <class T>
  void all_reduce_as(std::span<T> data, ReduceOp op) {
    if (data.empty()) return;
    run("all_reduce", [&] {
      return ncclAllReduce(data.data(), data.data(), data.size(), kNcclType<T>, to_nccl(op), comm(),
                           stream());
    });
  }

  /// Runs `transfer(index, peer)` for all peers but this rank, as one group, and waits.
  template <class Transfer>
  void exchange(const std::string& operation, const Transfer& transfer) {
    if (size() == 1) return;
    connection_.enqueue_group(
        operation, [&](int peer) { return transfer(static_cast<std::size_t>(peer), peer); });
    connection_.finish(operation);
  }

  /// Enqueues by `enqueue()` and waits until the work is done.
  template <class Enqueue>
  void run(std::string_view operation, const Enqueue& enqueue) {
    connection_.enqueue(operation, enqueue);
    connection_.finish(operation);
  }

  [[nodiscard]] ncclComm_t comm() const { return connection_.comm(); }
  [[nodiscard]] cudaStream_t stream() const { return connection_.stream(); }

  Communicator& host_;
  Exec& exec_;
  DeviceBuffer<std::int64_t> token_;   // what a barrier reduces
  DeviceBuffer<std::int64_t> counts_;  // [2, R]: sizes to send, sizes to receive
  NcclConnection connection_;
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
