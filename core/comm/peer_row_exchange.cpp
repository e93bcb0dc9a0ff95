// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows between the GPUs of one machine, written straight into each other's memory
// (kernels/peer_rows.hpp).
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <string>
#include <vector>

#include "core/comm/agreement.hpp"
#include "core/comm/row_exchange.hpp"
#include "kernels/common/error.hpp"
#include "kernels/peer_rows.hpp"

namespace pikv {
namespace {

using kernels::PeerMove;
using kernels::PeerWindows;

enum Operation : int { kGather, kGiveBack };
constexpr std::array kOperationNames = {"gather", "give_back"};

/// What the others have to know to reach a rank's memory.
struct Card {
  std::array<char, 256> machine;
  PeerWindows::Handle window;
};

/// Throws CommError on all ranks for what fails on any.
template <class F>
void all_or_none(Communicator& host, const F& f) {
  try {
    agree(host, f);
  } catch (const AgreedError& error) {
    throw CommError(error.what());
  }
}

class PeerRowExchange final : public RowExchange {
 public:
  PeerRowExchange(Communicator& host, Exec& exec, std::chrono::milliseconds deadline)
      : RowExchange(host.rank(), host.size()), host_(host), exec_(exec), deadline_(deadline) {
    Card mine{};
    all_or_none(host, [&] {
      windows_.emplace(exec, host.rank(), host.size(), deadline);
      mine.window = windows_->handle();
      if (gethostname(mine.machine.data(), mine.machine.size() - 1) != 0) {
        throw Error("peer: this machine has no name");
      }
    });
    std::vector<Card> all(static_cast<std::size_t>(host.size()));
    host.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
    std::vector<PeerWindows::Handle> handles;
    for (std::size_t r = 0; r < all.size(); ++r) {
      if (all[r].machine != all[0].machine) {
        throw CommError(concat("peer: ranks 0 and ", r, " are on different machines"));
      }
      handles.push_back(all[r].window);
    }
    all_or_none(host, [&] { windows_->open(handles); });
  }

  /// Together with the peers, who may still write; while an exception is on its way, without them.
  ~PeerRowExchange() override {
    if (std::uncaught_exceptions() > 0) return;
    try {
      exec_.synchronize();
      host_.barrier();
      windows_->close();
      host_.barrier();                 // memory is freed after the last has closed it
    } catch (const std::exception&) {  // the peers are gone
    }
  }

  [[nodiscard]] std::string_view name() const override { return "peer"; }
  [[nodiscard]] bool can_be_recorded() const override { return true; }

 private:
  using FirstRow = std::span<const std::int64_t>;

  void do_gather(FirstRow first_row, std::span<const RowArray> arrays) override {
    move(kGather, first_row, arrays);
  }
  void do_give_back(FirstRow first_row, std::span<const RowArray> arrays) override {
    move(kGiveBack, first_row, arrays);
  }

  /// In as many moves as the windows need; all ranks come to the same number.
  void move(Operation operation, FirstRow first_row, std::span<const RowArray> arrays) {
    check_failure();
    PeerMove move{};
    move.operation = operation;
    move.num_arrays = static_cast<int>(arrays.size());
    std::int64_t bytes_per_row = 0;
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      const auto row_bytes = static_cast<std::int64_t>(arrays[a].row_bytes);
      move.arrays[a] = {row_bytes, arrays[a].from, arrays[a].to};
      bytes_per_row += row_bytes;
    }
    constexpr std::int64_t kPadding = 16 * kernels::kMaxPeerArrays;
    const std::int64_t most_at_once = (kernels::kPeerPartBytes - kPadding) / bytes_per_row;
    require(most_at_once > 0, "peer", "rows of ", bytes_per_row, " bytes exceed ",
            kernels::kPeerPartBytes);
    std::int64_t most = 0;
    for (int r = 0; r < size(); ++r) most = std::max(most, num_rows(first_row, r));
    for (std::int64_t begin = 0; begin < most; begin += most_at_once) {
      move.most_rows = std::min(most_at_once, most - begin);
      for (int peer = 0; peer < size(); ++peer) {
        place(operation, first_row, peer, begin, most_at_once, move);
      }
      windows_->move(move);
    }
  }

  /// Where the rows of a peer, and this rank's, from the `begin`th on lie.
  void place(Operation operation, FirstRow first_row, int peer, std::int64_t begin,
             std::int64_t most_at_once, PeerMove& move) const {
    const auto i = static_cast<std::size_t>(peer);
    const auto part_of = [&](int r) {
      const std::int64_t left = num_rows(first_row, r) - begin;
      return std::clamp<std::int64_t>(left, 0, most_at_once);
    };
    const std::int64_t mine = part_of(rank());
    const std::int64_t theirs = part_of(peer);
    if (operation == kGather) {
      move.from_row[i] = begin;
      move.num_sent[i] = mine;
      move.to_row[i] = first_row[i] + begin;
      move.num_received[i] = theirs;
    } else {
      move.from_row[i] = first_row[i] + begin;
      move.num_sent[i] = theirs;
      move.to_row[i] = peer * num_rows(first_row, rank()) + begin;
      move.num_received[i] = mine;
    }
  }

  /// Kernels end by themselves, so waiting for the stream needs no deadline of its own.
  void do_finish() override {
    exec_.synchronize();
    check_failure();
  }

  void check_failure() const {
    const auto failure = windows_->failure();
    if (!failure) return;
    throw Timeout(concat("rows ", kOperationNames.at(static_cast<std::size_t>(failure->operation)),
                         ": rank ", rank(), " waits for rank ", failure->peer, " to send after ",
                         deadline_.count(), " ms"));
  }

  Communicator& host_;
  Exec& exec_;
  std::chrono::milliseconds deadline_;
  std::optional<PeerWindows> windows_;
};

}  // namespace

std::unique_ptr<RowExchange> make_peer_row_exchange(Communicator& host, Exec& exec,
                                                    std::chrono::milliseconds deadline) {
  require(exec.device() == Device::kCuda, "make_peer_row_exchange", "exec runs on the CPU");
  return std::make_unique<PeerRowExchange>(host, exec, deadline);
}

}  // namespace pikv
