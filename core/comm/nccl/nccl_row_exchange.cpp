// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows between GPUs by NCCL: one group of sends and receives a call.
//
// Between a call and finish() the host may wait for the stream in ways that have no deadline (a
// copy to the host, memory that is freed), and NCCL's kernels wait for a lost peer for ever. So a
// thread looks at the clock: past the deadline since the last call it aborts the communicator,
// which ends its kernels, and the next call throws Timeout.
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "core/comm/nccl/connection.hpp"
#include "core/comm/row_exchange.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using Clock = std::chrono::steady_clock;

class NcclRowExchange final : public RowExchange {
 public:
  NcclRowExchange(Communicator& host, Exec& exec, std::chrono::milliseconds deadline)
      : RowExchange(host.rank(), host.size()),
        exec_(exec),
        connection_(host, exec, deadline),
        watchdog_([this] { watch(); }) {}

  ~NcclRowExchange() override {
    {
      const std::lock_guard lock(mutex_);
      closes_ = true;
    }
    wake_.notify_all();
    watchdog_.join();
  }

  [[nodiscard]] std::string_view name() const override { return "nccl"; }

 private:
  void do_gather(std::span<const std::int64_t> first_row,
                 std::span<const RowArray> arrays) override {
    const std::unique_lock lock = enter("gather");
    const std::int64_t num_mine = num_rows(first_row, rank());
    const std::int64_t first = first_row[static_cast<std::size_t>(rank())];
    for (const RowArray& a : arrays) {
      copy(a.to + bytes(a, first), a.from, bytes(a, num_mine));
    }
    connection_.enqueue_group("gather", [&](int peer) {
      const std::int64_t place = first_row[static_cast<std::size_t>(peer)];
      const std::int64_t num_theirs = num_rows(first_row, peer);
      ncclResult_t result = ncclSuccess;
      for (const RowArray& a : arrays) {
        if (accepted(result)) result = send(a.from, bytes(a, num_mine), peer);
        if (accepted(result)) result = receive(a.to + bytes(a, place), bytes(a, num_theirs), peer);
      }
      return result;
    });
    last_call_ = Clock::now();
  }

  void do_give_back(std::span<const std::int64_t> first_row,
                    std::span<const RowArray> arrays) override {
    const std::unique_lock lock = enter("give_back");
    const std::int64_t num_mine = num_rows(first_row, rank());
    const std::int64_t first = first_row[static_cast<std::size_t>(rank())];
    for (const RowArray& a : arrays) {
      copy(a.to + bytes(a, rank() * num_mine), a.from + bytes(a, first), bytes(a, num_mine));
    }
    connection_.enqueue_group("give_back", [&](int peer) {
      const std::int64_t place = first_row[static_cast<std::size_t>(peer)];
      const std::int64_t num_theirs = num_rows(first_row, peer);
      ncclResult_t result = ncclSuccess;
      for (const RowArray& a : arrays) {
        if (accepted(result)) result = send(a.from + bytes(a, place), bytes(a, num_theirs), peer);
        if (accepted(result)) {
          result = receive(a.to + bytes(a, peer * num_mine), bytes(a, num_mine), peer);
        }
      }
      return result;
    });
    last_call_ = Clock::now();
  }

  void do_finish() override {
    const std::unique_lock lock = enter(operation_);
    connection_.finish(operation_);
    last_call_.reset();
  }

  [[nodiscard]] std::unique_lock<std::mutex> enter(std::string_view operation) {
    // Not under the lock, which the thread that aborts needs: with a full stream it waits.
    cuda::flush_launches(exec_.cuda_context());
    std::unique_lock lock(mutex_);
    if (timed_out_) connection_.time_out(operation_);
    operation_ = operation;
    return lock;
  }

  void watch() {
    constexpr std::chrono::milliseconds kLook{100};
    exec_.cuda_context().activate();
    std::unique_lock lock(mutex_);
    while (!closes_) {
      wake_.wait_for(lock, kLook);
      if (!last_call_ || Clock::now() - *last_call_ < connection_.deadline()) continue;
      last_call_.reset();
      if (cudaStreamQuery(connection_.stream()) == cudaSuccess) continue;
      timed_out_ = true;
      connection_.abort();
    }
  }

  static std::size_t bytes(const RowArray& array, std::int64_t rows) {
    return static_cast<std::size_t>(rows) * array.row_bytes;
  }

  void copy(std::byte* to, const std::byte* from, std::size_t size) {
    if (to != from) copy_bytes(exec_, to, Device::kCuda, from, Device::kCuda, size);
  }
  ncclResult_t send(const std::byte* from, std::size_t size, int peer) {
    if (size == 0) return ncclSuccess;
    return ncclSend(from, size, ncclUint8, peer, connection_.comm(), connection_.stream());
  }
  ncclResult_t receive(std::byte* to, std::size_t size, int peer) {
    if (size == 0) return ncclSuccess;
    return ncclRecv(to, size, ncclUint8, peer, connection_.comm(), connection_.stream());
  }

  Exec& exec_;
  NcclConnection connection_;
  std::string_view operation_ = "rows";  // the last one
  std::mutex mutex_;                     // of all that follows, and of the connection
  std::condition_variable wake_;
  std::optional<Clock::time_point> last_call_;  // that was not waited for
  bool timed_out_ = false;
  bool closes_ = false;
  std::thread watchdog_;
};

}  // namespace

std::unique_ptr<RowExchange> make_nccl_row_exchange(Communicator& host, Exec& exec,
                                                    std::chrono::milliseconds deadline) {
  require(exec.device() == Device::kCuda, "make_nccl_row_exchange",
          "exec runs on the CPU; NCCL needs a GPU");
  return std::make_unique<NcclRowExchange>(host, exec, deadline);
}

}  // namespace pikv
