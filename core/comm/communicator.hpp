// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Collectives among the ranks of a job, over host or device memory.
//
// Every rank calls the same operations in the same order. Every wait has a deadline: past it the
// call throws Timeout naming the operation and the peers that did not answer, so that a lost rank
// ends the job instead of hanging it. A group of one is the identity.
//
// The public functions check, count and time; the transport is behind the private do_* functions.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/common/device_buffer.hpp"

namespace pikv {

/// Bytes to or from one peer.
using Message = DeviceBuffer<std::byte>;

enum class ReduceOp : std::uint8_t { kSum, kMin, kMax };

/// What this rank moved since it started. Bytes kept on the rank are not counted.
struct CommStats {
  std::uint64_t num_operations = 0;
  std::uint64_t num_messages_sent = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  double seconds = 0;  // inside collectives, waiting included
};

class Communicator {
 public:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Where the memory of messages lies.
  [[nodiscard]] virtual Device device() const = 0;
  [[nodiscard]] const CommStats& stats() const { return stats_; }

  void barrier();

  /// Everyone receives root's bytes; all ranks pass the same size.
  void broadcast(std::span<std::byte> data, int root);

  /// Element-wise, in place; all ranks pass the same count. Equal on every rank, bit for bit.
  void all_reduce(std::span<double> data, ReduceOp op);
  void all_reduce(std::span<float> data, ReduceOp op);
  void all_reduce(std::span<std::int64_t> data, ReduceOp op);

  /// all[r * n ... + n) = rank r's n bytes; all ranks pass the same n.
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all);

  /// send[r] goes to rank r and received[r] came from rank r; sizes may differ and be zero, and the
  /// receiver need not know them. Both vectors hold size() messages on device(). The message to
  /// oneself is moved, not copied: send[rank()] and received[rank()] change places. `what` names
  /// the exchange in errors.
  void all_to_all_v(std::vector<Message>& send, std::vector<Message>& received,
                    std::string_view what);

  /// Whether this rank is the first of its machine to ask: that one says why the job ends, and the
  /// others, who fail of the same, leave it to that. Waits for nobody.
  [[nodiscard]] virtual bool claim_report() = 0;

  /// Ends every rank of the job now, because this one failed. Does not return when size() > 1 under
  /// a launcher; a group of one returns.
  virtual void abort_job(int exit_code) = 0;

 private:
  virtual void do_barrier() = 0;
  virtual void do_broadcast(std::span<std::byte> data, int root) = 0;
  virtual void do_all_reduce(std::span<double> data, ReduceOp op) = 0;
  virtual void do_all_reduce(std::span<float> data, ReduceOp op) = 0;
  virtual void do_all_reduce(std::span<std::int64_t> data, ReduceOp op) = 0;
  virtual void do_all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  virtual void do_all_to_all_v(std::vector<Message>& send, std::vector<Message>& received,
                               std::string_view what) = 0;

  template <class T>
  void reduce(std::span<T> data, ReduceOp op);

  int rank_;
  int size_;
  CommStats stats_;
};

/// One empty message a rank, in the memory that the communicator moves or of the host.
[[nodiscard]] std::vector<Message> make_messages(const Communicator& comm);
[[nodiscard]] std::vector<Message> make_messages(int num_ranks, Device device = Device::kCpu);

/// A group of one.
[[nodiscard]] std::unique_ptr<Communicator> make_single_communicator();

struct MpiOptions {
  std::chrono::milliseconds deadline{60'000};  // of one wait
};

/// The defaults, with the deadline from PIKV_COMM_DEADLINE_MS if it is set (a positive number of
/// milliseconds). Throws InvalidArgument for another value.
[[nodiscard]] MpiOptions mpi_options_from_environment();

/// True when this process was started by an MPI launcher.
[[nodiscard]] bool launched_by_mpi();

[[nodiscard]] bool mpi_is_built();
[[nodiscard]] bool nccl_is_built();

/// All ranks of the MPI job, over host memory; starts MPI, and ends it when destroyed. Throws
/// NotBuilt without MPI.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(const MpiOptions& options);

/// The same ranks over the memory of `exec`'s GPU, one GPU a rank. `host` carries the bootstrap and
/// must outlive the result. Throws NotBuilt without NCCL.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(
    Communicator& host, Exec& exec, std::chrono::milliseconds deadline);

}  // namespace pikv
