// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What slots keep account of, as scorers see it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/policy/scheduler.hpp"

namespace pikv::scheduling {

/// One column of the slots of a head, which must be among those that the scheduler needs.
class Column {
 public:
  Column(const LayerSlots& slots, const HeadSlots& head, AttentionColumn column)
      : data_(head.columns.data + slots.columns.place(column)), stride_(slots.columns.count()) {}

  /// All of it, for scores that are the column itself.
  void copy_to(std::vector<float>& to) const {
    if (stride_ == 1) {
      std::copy_n(data_, to.size(), to.begin());
      return;
    }
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = (*this)[i];
  }

  float operator[](std::size_t i) const { return data_[static_cast<std::ptrdiff_t>(i) * stride_]; }

 private:
  const float* data_;
  std::ptrdiff_t stride_;
};

}  // namespace pikv::scheduling
