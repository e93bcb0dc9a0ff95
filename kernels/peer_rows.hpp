// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows that the GPUs of one machine write straight into each other's memory, one GPU a process.
//
// Each rank has a window: a part for each rank that writes to it, twice, and flags. A move is one
// kernel: it copies a rank's rows into its parts of the others' windows, raises its flags there,
// waits for theirs, and copies what came out of its own window. Moves are numbered, and odd and
// even ones use different parts. Nobody can write what is still read: a rank that begins move e + 2
// has had the flags of move e + 1 from all others, and these had ended move e before they began
// move e + 1. For that every move raises all flags, also where no rows go.
//
// The number of a move is kept on the GPU, so that a captured graph may hold moves. A kernel waits
// for at most the deadline; then it leaves a note of it for the host and ends, as do all later
// ones. CUDA only.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "kernels/common/exec.hpp"

namespace pikv::kernels {

inline constexpr int kMaxPeerRanks = 8;
inline constexpr int kMaxPeerArrays = 4;

/// Bytes that one rank may send to another in a move, the arrays one after another, each from a
/// multiple of 16.
inline constexpr std::int64_t kPeerPartBytes = std::int64_t{4} << 20;

/// What one rank sends to each and takes from each; counts and places are in rows.
struct PeerMove {
  /// The same widths on all ranks; multiples of 4.
  struct Array {
    std::int64_t row_bytes;
    const std::byte* from;
    std::byte* to;
  };
  Array arrays[kMaxPeerArrays];
  int num_arrays;
  std::int64_t from_row[kMaxPeerRanks];  // to each rank, itself among them
  std::int64_t num_sent[kMaxPeerRanks];
  std::int64_t to_row[kMaxPeerRanks];  // from each rank; both ends say the same of the count
  std::int64_t num_received[kMaxPeerRanks];
  std::int64_t most_rows;  // that a rank sends to another; the same on all ranks
  int operation;           // what a failure names
};

class PeerWindows {
 public:
  /// What another process opens a window by.
  using Handle = std::array<std::byte, 64>;

  /// Throws NotBuilt without CUDA, InvalidArgument for more than kMaxPeerRanks ranks.
  PeerWindows(Exec& exec, int rank, int num_ranks, std::chrono::milliseconds deadline);
  ~PeerWindows();
  PeerWindows(const PeerWindows&) = delete;
  PeerWindows& operator=(const PeerWindows&) = delete;

  [[nodiscard]] Handle handle() const;
  /// Opens the windows of all ranks, in their order. Throws CudaError where one cannot be reached.
  void open(std::span<const Handle> handles);
  /// Before any of the others is freed. Waits for the stream.
  void close() noexcept;

  /// Enqueues a move; all ranks do so in the same order, when all have opened the windows.
  void move(const PeerMove& move);

  struct Failure {
    int peer;
    int operation;
  };
  /// Whom a move waited for until the deadline. May be asked at any time.
  [[nodiscard]] std::optional<Failure> failure() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pikv::kernels
