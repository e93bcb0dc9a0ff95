// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages of one layout in the memory of an Exec.
#pragma once

#include <vector>

#include "kernels/common/page_layout.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {

/// Pages that lie end to end, in the memory of an Exec.
class Pages {
 public:
  Pages(Exec& exec, const PageLayout& layout, const std::vector<std::byte>& bytes)
      : layout_(layout), bytes_(exec, bytes), pointers_(exec, pointers(bytes.size())) {}

  [[nodiscard]] std::byte* page(std::int64_t i) {
    return bytes_.data() + static_cast<std::size_t>(i) * layout_.page_bytes();
  }
  [[nodiscard]] View<std::byte*, 1> view(std::int64_t count) { return pointers_.view(count); }
  [[nodiscard]] std::vector<std::byte> host() { return bytes_.host(); }

 private:
  [[nodiscard]] std::vector<std::byte*> pointers(std::size_t num_bytes) {
    std::vector<std::byte*> result;
    for (std::size_t at = 0; at < num_bytes; at += layout_.page_bytes()) {
      result.push_back(bytes_.data() + at);
    }
    return result;
  }

  PageLayout layout_;
  Array<std::byte> bytes_;
  Array<std::byte*> pointers_;
};

inline std::vector<std::byte> poisoned_pages(const PageLayout& layout, std::int64_t count) {
  return std::vector<std::byte>(static_cast<std::size_t>(count) * layout.page_bytes(),
                                std::byte{0xff});
}

}  // namespace pikv::test
