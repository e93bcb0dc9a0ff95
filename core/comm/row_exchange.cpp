// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/comm/row_exchange.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/common/error.hpp"

namespace pikv {

void RowExchange::check(const char* operation, std::span<const std::int64_t> first_row,
                        std::span<const RowArray> arrays) const {
  require(first_row.size() == static_cast<std::size_t>(size_) + 1 && first_row[0] == 0 &&
              std::ranges::is_sorted(first_row),
          operation, "the rows of ", size_, " ranks are not divided by ", first_row.size(),
          " ascending numbers from 0");
  require(!arrays.empty() && arrays.size() <= kMaxRowArrays, operation, arrays.size(),
          " arrays are outside [1, ", kMaxRowArrays, "]");
  for (const RowArray& array : arrays) {
    require(array.row_bytes > 0 && array.row_bytes % 4 == 0, operation, "rows of ", array.row_bytes,
            " bytes are not whole words");
  }
}

void RowExchange::gather(std::span<const std::int64_t> first_row,
                         std::span<const RowArray> arrays) {
  check("gather", first_row, arrays);
  do_gather(first_row, arrays);
  const auto num_all = static_cast<std::uint64_t>(first_row.back());
  const auto num_mine = static_cast<std::uint64_t>(num_rows(first_row, rank_));
  const auto num_peers = static_cast<std::uint64_t>(size_ - 1);
  ++stats_.num_operations;
  stats_.num_messages_sent += num_mine > 0 ? num_peers : 0;
  for (const RowArray& array : arrays) {
    stats_.bytes_sent += num_peers * num_mine * array.row_bytes;
    stats_.bytes_received += (num_all - num_mine) * array.row_bytes;
  }
}

void RowExchange::gather_copies(std::int64_t num_rows, std::span<const RowArray> arrays) {
  std::vector<std::int64_t> first_row;
  for (int r = 0; r <= size_; ++r) first_row.push_back(r * num_rows);
  gather(first_row, arrays);
}

void RowExchange::give_back(std::span<const std::int64_t> first_row,
                            std::span<const RowArray> arrays) {
  check("give_back", first_row, arrays);
  do_give_back(first_row, arrays);
  const auto num_all = static_cast<std::uint64_t>(first_row.back());
  const auto num_mine = static_cast<std::uint64_t>(num_rows(first_row, rank_));
  ++stats_.num_operations;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_ && num_rows(first_row, peer) > 0) ++stats_.num_messages_sent;
  }
  for (const RowArray& array : arrays) {
    stats_.bytes_sent += (num_all - num_mine) * array.row_bytes;
    stats_.bytes_received += static_cast<std::uint64_t>(size_ - 1) * num_mine * array.row_bytes;
  }
}

void RowExchange::finish() {
  const auto start = std::chrono::steady_clock::now();
  do_finish();
  stats_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void require_own_gpus(Communicator& host, const Exec& exec) {
  const std::array<std::byte, 16> mine = exec.gpu_uuid();
  std::vector<std::array<std::byte, 16>> all(static_cast<std::size_t>(host.size()));
  host.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  for (std::size_t b = 1; b < all.size(); ++b) {
    for (std::size_t a = 0; a < b; ++a) {
      require(all[a] != all[b], "device", "ranks ", a, " and ", b,
              " were given one GPU; each rank needs its own");
    }
  }
}

}  // namespace pikv
