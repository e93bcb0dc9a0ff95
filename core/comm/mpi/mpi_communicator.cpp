// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Ranks of an MPI job over host memory. Every operation is nonblocking underneath and polled, so
// that each wait has a deadline; MPI_THREAD_FUNNELED is enough, all calls come from one thread.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/comm/communicator.hpp"
#include "core/comm/mpi/machine_flag.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using Clock = std::chrono::steady_clock;

// Tags cycle far apart enough that two exchanges can never be confused.
constexpr int kTagCycle = 16'384;

// Polls before the processor is offered to another rank of the same machine.
constexpr int kSpins = 200;

// Looking at the clock costs more than a poll; once in this many yields is often enough.
constexpr int kYieldsPerClockRead = 64;

void check(int status, std::string_view operation, int rank) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  throw CommError(concat(operation, ": MPI error: ", text.data(), " (rank ", rank, ")"));
}

int count_of(std::size_t bytes, std::string_view operation) {
  require(bytes <= static_cast<std::size_t>(INT_MAX), "mpi", "message of ", bytes, " bytes in ",
          operation, " exceeds ", INT_MAX);
  return static_cast<int>(bytes);
}

/// Polls until done() holds; past the deadline throws what waiting_for() says.
template <class Done, class WaitingFor>
void poll(std::chrono::milliseconds deadline, Done&& done, WaitingFor&& waiting_for) {
  const auto start = Clock::now();
  int spins = 0;
  int yields = 0;
  while (!done()) {
    if (++spins < kSpins) continue;
    sched_yield();
    if (++yields % kYieldsPerClockRead == 0 && Clock::now() - start > deadline) {
      throw Timeout(concat(waiting_for(), " after ", deadline.count(), " ms"));
    }
  }
}

/// MPI_Init and MPI_Finalize. An exception on its way out skips MPI_Finalize, which would wait for
/// peers that wait for us; the caller ends the job by abort_job.
class MpiEnvironment {
 public:
  MpiEnvironment() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread", 0);
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", 0);
  }
  ~MpiEnvironment() {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  [[nodiscard]] static int world_rank() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
  }
  [[nodiscard]] static int world_size() {
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
  }
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::unique_ptr<MpiEnvironment> environment, const MpiOptions& options)
      : Communicator(MpiEnvironment::world_rank(), MpiEnvironment::world_size()),
        environment_(std::move(environment)),
        deadline_(options.deadline),
        requests_(2 * static_cast<std::size_t>(size()), MPI_REQUEST_NULL),
        scratch_send_(make_messages(size())),
        scratch_received_(make_messages(size())) {}

  [[nodiscard]] std::string_view name() const override { return "mpi"; }
  [[nodiscard]] Device device() const override { return Device::kCpu; }
  [[nodiscard]] bool claim_report() override { return somebody_reports_.raise(); }
  void abort_job(int exit_code) override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 private:
  // The small collectives are exchanges of messages too: their waits then name the peer that is
  // missing, and a reduction adds in the order of ranks, so that all get the same bits.
  void do_barrier() override {
    resize(scratch_send_, 0);
    do_all_to_all_v(scratch_send_, scratch_received_, "barrier");
  }

  void do_broadcast(std::span<std::byte> data, int root) override {
    resize(scratch_send_, rank() == root ? data.size() : 0);
    if (rank() == root) {
      for (Message& message : scratch_send_) std::ranges::copy(data, message.data());
    }
    do_all_to_all_v(scratch_send_, scratch_received_, "broadcast");
    const Message& from_root = scratch_received_[static_cast<std::size_t>(root)];
    check_size(from_root, data.size(), "broadcast", static_cast<std::size_t>(root));
    std::ranges::copy(from_root.span(), data.begin());
  }

  void do_all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    gather(mine, "all_gather");
    for (std::size_t peer = 0; peer < scratch_received_.size(); ++peer) {
      std::ranges::copy(scratch_received_[peer].span(),
                        all.begin() + static_cast<std::ptrdiff_t>(peer * mine.size()));
    }
  }

  void do_all_reduce(std::span<double> data, ReduceOp op) override { reduce(data, op); }
  void do_all_reduce(std::span<float> data, ReduceOp op) override { reduce(data, op); }
  void do_all_reduce(std::span<std::int64_t> data, ReduceOp op) override { reduce(data, op); }

  template <class T>
  void reduce(std::span<T> data, ReduceOp op) {
    gather(std::as_bytes(data), "all_reduce");
    if (data.empty()) return;
    std::memcpy(data.data(), scratch_received_[0].data(), data.size_bytes());
    for (std::size_t peer = 1; peer < scratch_received_.size(); ++peer) {
      const auto* from = reinterpret_cast<const T*>(scratch_received_[peer].data());
      for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = op == ReduceOp::kSum   ? data[i] + from[i]
                  : op == ReduceOp::kMin ? std::min(data[i], from[i])
                                         : std::max(data[i], from[i]);
      }
    }
  }

  /// Everyone's bytes into scratch_received_, by rank.
  void gather(std::span<const std::byte> mine, std::string_view operation) {
    resize(scratch_send_, mine.size());
    for (Message& message : scratch_send_) std::ranges::copy(mine, message.data());
    do_all_to_all_v(scratch_send_, scratch_received_, operation);
    for (std::size_t peer = 0; peer < scratch_received_.size(); ++peer) {
      check_size(scratch_received_[peer], mine.size(), operation, peer);
    }
  }

  static void resize(std::vector<Message>& messages, std::size_t bytes) {
    for (Message& message : messages) message.resize_discard(bytes);
  }

  void check_size(const Message& message, std::size_t expected, std::string_view operation,
                  std::size_t peer) const {
    if (message.size() == expected) return;
    throw CommError(concat(operation, ": ", message.size(), " bytes from rank ", peer,
                           ", expected ", expected, "; the ranks are out of step (rank ", rank(),
                           ")"));
  }

  // One message to and from every peer, also when it is empty: its arrival says that there is
  // nothing to come. The receiver learns the size by probing, so no counts travel beforehand.
  void do_all_to_all_v(std::vector<Message>& send, std::vector<Message>& received,
                       std::string_view what) override {
    const auto ranks = static_cast<std::size_t>(size());
    const auto self = static_cast<std::size_t>(rank());
    tag_ = (tag_ + 1) % kTagCycle;
    std::swap(send[self], received[self]);
    std::ranges::fill(requests_, MPI_REQUEST_NULL);
    arrived_.assign(ranks, false);
    arrived_[self] = true;
    for (std::size_t step = 1; step < ranks; ++step) {
      const std::size_t peer = (self + step) % ranks;
      check(MPI_Isend(send[peer].data(), count_of(send[peer].size(), what), MPI_BYTE,
                      static_cast<int>(peer), tag_, MPI_COMM_WORLD, &requests_[peer]),
            what, rank());
    }
    std::size_t missing = ranks - 1;
    poll(
        deadline_,
        [&] {
          for (std::size_t peer = 0; missing > 0 && peer < ranks; ++peer) {
            if (!arrived_[peer] && receive_if_there(received[peer], peer, what)) --missing;
          }
          int done = 0;
          check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done,
                            MPI_STATUSES_IGNORE),
                what, rank());
          return missing == 0 && done != 0;
        },
        [&] { return describe_wait(what); });
  }

  bool receive_if_there(Message& message, std::size_t peer, std::string_view what) {
    int found = 0;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    check(MPI_Improbe(static_cast<int>(peer), tag_, MPI_COMM_WORLD, &found, &handle, &status), what,
          rank());
    if (found == 0) return false;
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    message.resize_discard(static_cast<std::size_t>(bytes));
    const auto ranks = static_cast<std::size_t>(size());
    check(MPI_Imrecv(message.data(), bytes, MPI_BYTE, &handle, &requests_[ranks + peer]), what,
          rank());
    arrived_[peer] = true;
    return true;
  }

  std::string describe_wait(std::string_view what) const {
    std::string text = concat(what, ": rank ", rank(), " waits for");
    const auto ranks = static_cast<std::size_t>(size());
    const char* separator = " ";
    for (std::size_t peer = 0; peer < ranks; ++peer) {
      const bool sends = !arrived_[peer] || requests_[ranks + peer] != MPI_REQUEST_NULL;
      if (!sends && requests_[peer] == MPI_REQUEST_NULL) continue;
      text += concat(separator, "rank ", peer, sends ? " to send" : " to receive");
      separator = ", ";
    }
    return text;
  }

  std::unique_ptr<MpiEnvironment> environment_;
  MachineFlag somebody_reports_;
  std::chrono::milliseconds deadline_;
  int tag_ = 0;
  std::vector<MPI_Request> requests_;                     // [0, R) sends, [R, 2R) receives
  std::vector<bool> arrived_;                             // by peer: its message was matched
  std::vector<Message> scratch_send_, scratch_received_;  // of the small collectives
};

}  // namespace

bool launched_by_mpi() {
  constexpr std::array kLauncherVariables = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
  return std::ranges::any_of(kLauncherVariables,
                             [](const char* name) { return std::getenv(name) != nullptr; });
}

bool mpi_is_built() { return true; }

std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& options) {
  return std::make_unique<MpiCommunicator>(std::make_unique<MpiEnvironment>(), options);
}

}  // namespace pikv
