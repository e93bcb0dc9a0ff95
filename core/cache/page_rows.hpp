// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of open pages as rows, one after another, and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/page_layout.hpp"

namespace pikv {

/// Rows of all slots of pages [n P, D] and back.
class PageRows {
 public:
  PageRows(const PageLayout& open_layout, std::span<std::byte* const> pages)
      : layout_(open_layout), pages_(pages) {}

  [[nodiscard]] std::vector<float> read(bool keys) const {
    std::vector<float> rows;
    rows.reserve(pages_.size() * static_cast<std::size_t>(layout_.num_slots) *
                 static_cast<std::size_t>(layout_.head_dim));
    visit(keys, [&](const float* element) { rows.push_back(*element); });
    return rows;
  }
  void write(bool keys, const std::vector<float>& rows) const {
    auto next = rows.begin();
    visit(keys, [&](float* element) { *element = *next++; });
  }

 private:
  /// Keys lie channel by channel, values slot by slot.
  template <class F>
  void visit(bool keys, const F& f) const {
    const std::ptrdiff_t of_slot = keys ? 1 : layout_.value_stride();
    const std::ptrdiff_t of_channel = keys ? layout_.num_slots : 1;
    for (std::byte* page : pages_) {
      auto* first = reinterpret_cast<float*>(page + (keys ? 0 : layout_.value_offset()));
      for (std::int32_t slot = 0; slot < layout_.num_slots; ++slot) {
        for (std::int32_t d = 0; d < layout_.head_dim; ++d) {
          f(first + slot * of_slot + d * of_channel);
        }
      }
    }
  }

  const PageLayout& layout_;
  std::span<std::byte* const> pages_;
};

}  // namespace pikv
