// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/comm/agreement.hpp"

#include <cstring>
#include <vector>

namespace pikv::detail {

void share_failure(Communicator& comm, const std::string* failure) {
  struct Report {
    bool failed;
    std::array<char, 1023> text;
  };
  Report mine{.failed = failure != nullptr, .text = {}};
  if (failure != nullptr) {
    std::copy_n(failure->data(), std::min(failure->size(), mine.text.size() - 1),
                mine.text.begin());
  }
  std::vector<Report> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].failed) continue;
    std::string text = all[rank].text.data();
    if (comm.size() > 1) text += concat(" (rank ", rank, ")");
    throw AgreedError(text);
  }
}

}  // namespace pikv::detail
