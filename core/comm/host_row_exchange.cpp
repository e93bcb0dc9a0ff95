// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/comm/row_exchange.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

class HostRowExchange final : public RowExchange {
 public:
  explicit HostRowExchange(Communicator& comm)
      : RowExchange(comm.rank(), comm.size()),
        comm_(comm),
        send_(make_messages(comm)),
        received_(make_messages(comm)) {}

  [[nodiscard]] std::string_view name() const override { return "host"; }

 private:
  void do_gather(std::span<const std::int64_t> first_row,
                 std::span<const RowArray> arrays) override {
    for (Message& message : send_) pack(message, 0, num_rows(first_row, rank()), arrays);
    comm_.all_to_all_v(send_, received_, "rows of all ranks");
    for (int peer = 0; peer < size(); ++peer) {
      unpack(peer, first_row[static_cast<std::size_t>(peer)], num_rows(first_row, peer), arrays);
    }
  }

  void do_give_back(std::span<const std::int64_t> first_row,
                    std::span<const RowArray> arrays) override {
    for (int peer = 0; peer < size(); ++peer) {
      const auto i = static_cast<std::size_t>(peer);
      pack(send_[i], first_row[i], num_rows(first_row, peer), arrays);
    }
    comm_.all_to_all_v(send_, received_, "rows given back");
    const std::int64_t num_mine = num_rows(first_row, rank());
    for (int peer = 0; peer < size(); ++peer) unpack(peer, peer * num_mine, num_mine, arrays);
  }

  void do_finish() override {}

  /// Rows [first, first + count) of each array, one array after another.
  static void pack(Message& message, std::int64_t first, std::int64_t count,
                   std::span<const RowArray> arrays) {
    std::size_t num_bytes = 0;
    for (const RowArray& a : arrays) num_bytes += static_cast<std::size_t>(count) * a.row_bytes;
    message.resize_discard(num_bytes);
    std::byte* to = message.data();
    for (const RowArray& a : arrays) {
      to = std::copy_n(a.from + static_cast<std::size_t>(first) * a.row_bytes,
                       static_cast<std::size_t>(count) * a.row_bytes, to);
    }
  }

  /// What came from a peer to rows [first, first + count).
  void unpack(int peer, std::int64_t first, std::int64_t count, std::span<const RowArray> arrays) {
    const Message& message = received_[static_cast<std::size_t>(peer)];
    std::size_t num_bytes = 0;
    for (const RowArray& a : arrays) num_bytes += static_cast<std::size_t>(count) * a.row_bytes;
    if (message.size() != num_bytes) {
      throw CommError(concat("row exchange: ", message.size(), " bytes from rank ", peer,
                             ", expected ", num_bytes, "; the ranks are out of step (rank ", rank(),
                             ")"));
    }
    const std::byte* from = message.data();
    for (const RowArray& a : arrays) {
      const std::size_t size = static_cast<std::size_t>(count) * a.row_bytes;
      std::copy_n(from, size, a.to + static_cast<std::size_t>(first) * a.row_bytes);
      from += size;
    }
  }

  Communicator& comm_;
  std::vector<Message> send_, received_;
};

}  // namespace

std::unique_ptr<RowExchange> make_host_row_exchange(Communicator& comm) {
  require(comm.device() == Device::kCpu, "make_host_row_exchange", "'", comm.name(),
          "' does not move host memory");
  return std::make_unique<HostRowExchange>(comm);
}

}  // namespace pikv
