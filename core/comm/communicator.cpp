// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/comm/communicator.hpp"

#include <charconv>
#include <cstdlib>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// Adds the time of a scope to a counter.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

void Communicator::barrier() {
  ++stats_.num_operations;
  const Stopwatch watch(stats_.seconds);
  do_barrier();
}

void Communicator::broadcast(std::span<std::byte> data, int root) {
  require(root >= 0 && root < size(), "broadcast", "root = ", root, " is outside [0, ", size(),
          ")");
  ++stats_.num_operations;
  const Stopwatch watch(stats_.seconds);
  do_broadcast(data, root);
}

template <class T>
void Communicator::reduce(std::span<T> data, ReduceOp op) {
  ++stats_.num_operations;
  const Stopwatch watch(stats_.seconds);
  do_all_reduce(data, op);
}

void Communicator::all_reduce(std::span<double> data, ReduceOp op) { reduce(data, op); }
void Communicator::all_reduce(std::span<float> data, ReduceOp op) { reduce(data, op); }
void Communicator::all_reduce(std::span<std::int64_t> data, ReduceOp op) { reduce(data, op); }

void Communicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all) {
  require(all.size() == mine.size() * static_cast<std::size_t>(size()), "all_gather", "room for ",
          all.size(), " bytes, expected ", mine.size(), " from each of ", size(), " ranks");
  ++stats_.num_operations;
  const Stopwatch watch(stats_.seconds);
  do_all_gather(mine, all);
}

void Communicator::all_to_all_v(std::vector<Message>& send, std::vector<Message>& received,
                                std::string_view what) {
  const auto ranks = static_cast<std::size_t>(size());
  require(send.size() == ranks && received.size() == ranks, "all_to_all_v", send.size(),
          " messages to send and ", received.size(), " to receive among ", ranks, " ranks");
  ++stats_.num_operations;
  for (std::size_t r = 0; r < ranks; ++r) {
    if (static_cast<int>(r) == rank()) continue;
    ++stats_.num_messages_sent;
    stats_.bytes_sent += send[r].size();
  }
  const Stopwatch watch(stats_.seconds);
  do_all_to_all_v(send, received, what);
  for (std::size_t r = 0; r < ranks; ++r) {
    if (static_cast<int>(r) != rank()) stats_.bytes_received += received[r].size();
  }
}

MpiOptions mpi_options_from_environment() {
  MpiOptions options;
  const char* text = std::getenv("PIKV_COMM_DEADLINE_MS");
  if (text == nullptr) return options;
  const std::string_view value(text);
  long milliseconds = 0;
  const auto [end, status] =
      std::from_chars(value.data(), value.data() + value.size(), milliseconds);
  require(status == std::errc{} && end == value.data() + value.size() && milliseconds > 0, "mpi",
          "PIKV_COMM_DEADLINE_MS = '", value, "' is not a positive number of milliseconds");
  options.deadline = std::chrono::milliseconds(milliseconds);
  return options;
}

std::vector<Message> make_messages(const Communicator& comm) {
  return make_messages(comm.size(), comm.device());
}

std::vector<Message> make_messages(int num_ranks, Device device) {
  std::vector<Message> messages;
  for (int rank = 0; rank < num_ranks; ++rank) messages.emplace_back(device);
  return messages;
}

}  // namespace pikv
