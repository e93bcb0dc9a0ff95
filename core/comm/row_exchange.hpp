// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows of a step between the ranks of a job, where all know how many rows each rank has.
//
// On GPUs rows go from one to the other in the order of the Exec's stream, without the host: calls
// enqueue, and finish() waits. Ranks call the same functions in the same order. Rows of rank r are
// [first_row[r], first_row[r + 1]) of the rows of all ranks; R ranks, T of them this rank's, N all.
//
// A lost peer ends the job: past the deadline, waits end with Timeout, and so does each later call.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/comm/communicator.hpp"
#include "kernels/common/exec.hpp"

namespace pikv {

/// Rows of one kind, where the Exec has them.
struct RowArray {
  std::size_t row_bytes;  // a multiple of 4; the same on all ranks
  const std::byte* from;
  std::byte* to;
};
template <class From, class To>
[[nodiscard]] RowArray row_array(std::int64_t row_size, const From* from, To* to) {
  static_assert(sizeof(From) == sizeof(To));
  return {static_cast<std::size_t>(row_size) * sizeof(From),
          reinterpret_cast<const std::byte*>(from), reinterpret_cast<std::byte*>(to)};
}

/// Arrays of one call.
inline constexpr std::size_t kMaxRowArrays = 4;

class RowExchange {
 public:
  RowExchange(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~RowExchange() = default;
  RowExchange(const RowExchange&) = delete;
  RowExchange& operator=(const RowExchange&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] virtual std::string_view name() const = 0;

  /// Whether calls enqueue nothing but launches, which Exec::record may hold back.
  [[nodiscard]] virtual bool can_be_recorded() const { return false; }

  /// Everyone gets the rows of all: from [T, ...] to [N, ...].
  void gather(std::span<const std::int64_t> first_row, std::span<const RowArray> arrays);

  /// Everyone gets what each rank has for its rows: from [N, ...] to [R, T, ...].
  void give_back(std::span<const std::int64_t> first_row, std::span<const RowArray> arrays);

  /// Everyone gets what all have for the same rows: from [num_rows, ...] to [R, num_rows, ...].
  void gather_copies(std::int64_t num_rows, std::span<const RowArray> arrays);

  /// Waits until all that was enqueued on the stream is done. Throws Timeout past the deadline,
  /// CommError after another failure.
  void finish();

  /// What this rank moved, counted when it is enqueued; seconds are those of finish().
  [[nodiscard]] const CommStats& stats() const { return stats_; }

 protected:
  /// Rows of a rank.
  [[nodiscard]] static std::int64_t num_rows(std::span<const std::int64_t> first_row, int rank) {
    const auto i = static_cast<std::size_t>(rank);
    return first_row[i + 1] - first_row[i];
  }

 private:
  virtual void do_gather(std::span<const std::int64_t> first_row,
                         std::span<const RowArray> arrays) = 0;
  virtual void do_give_back(std::span<const std::int64_t> first_row,
                            std::span<const RowArray> arrays) = 0;
  virtual void do_finish() = 0;

  void check(const char* operation, std::span<const std::int64_t> first_row,
             std::span<const RowArray> arrays) const;

  int rank_;
  int size_;
  CommStats stats_;
};

/// Over host memory, by messages of `comm`: as rows go between GPUs, for ranks without one.
[[nodiscard]] std::unique_ptr<RowExchange> make_host_row_exchange(Communicator& comm);

// Of GPUs, one a rank. `host`, over host memory, carries what is needed to connect; it and `exec`
// must outlive the result. Collectives.

/// By NCCL. Throws NotBuilt without it.
[[nodiscard]] std::unique_ptr<RowExchange> make_nccl_row_exchange(
    Communicator& host, Exec& exec, std::chrono::milliseconds deadline);

/// By kernels that write into each other's memory. Throws CommError, on all ranks, where some
/// cannot reach another: on several machines, or without a way between their GPUs; or in a build
/// without CUDA.
[[nodiscard]] std::unique_ptr<RowExchange> make_peer_row_exchange(
    Communicator& host, Exec& exec, std::chrono::milliseconds deadline);

/// Throws InvalidArgument, on all ranks, where two of them have one GPU. A collective.
void require_own_gpus(Communicator& host, const Exec& exec);

}  // namespace pikv
