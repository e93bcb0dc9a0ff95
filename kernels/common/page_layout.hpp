// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What one KV page is in memory. A page holds P slots of one stream, keys and values of one KV
// head:
//
//   [ K: D x P | V: P x Dp | position: P x int32 | columns: C x P x float | bounds: 2 x Dp x float
//   ]
//
// with Dp = D rounded up to kLanes, C columns of what the slots were used for, if any, and, if
// asked for, the smallest and the largest key of each channel (kernels/page_bounds.hpp).
//
// Keys lie channel by channel, so that one vector register holds one channel of kLanes slots:
// scores of a whole page come out of the product with no horizontal sum, and per-channel codecs
// find their groups contiguous. Values lie slot by slot, padded to whole vectors with zeros.
//
// Slots are in any order. Invariants: P is a multiple of kLanes; a slot that holds nothing has
// position kNoPosition and finite numbers as key and value, so that masking by position is the only
// test a reader makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/common/attention_columns.hpp"
#include "kernels/common/dtype.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

/// Slots (and value channels) are padded to this many, the floats of a 512-bit register.
inline constexpr std::int32_t kLanes = 16;

/// Later than every query, so the causal mask hides the slot.
inline constexpr std::int32_t kNoPosition = std::numeric_limits<std::int32_t>::max();

struct PageLayout {
  std::int32_t num_slots = 0;  // P
  std::int32_t head_dim = 0;   // D
  DType dtype = DType::kF32;
  AttentionColumns columns = {};
  bool key_bounds = false;

  [[nodiscard]] constexpr std::int32_t value_stride() const {
    return (head_dim + kLanes - 1) / kLanes * kLanes;
  }
  [[nodiscard]] constexpr std::size_t key_bytes() const {
    return size_bytes(dtype) * static_cast<std::size_t>(head_dim) *
           static_cast<std::size_t>(num_slots);
  }
  [[nodiscard]] constexpr std::size_t value_bytes() const {
    return size_bytes(dtype) * static_cast<std::size_t>(value_stride()) *
           static_cast<std::size_t>(num_slots);
  }
  [[nodiscard]] constexpr std::size_t position_offset() const {
    return key_bytes() + value_bytes();
  }
  [[nodiscard]] constexpr std::size_t columns_offset() const {
    return position_offset() + sizeof(std::int32_t) * static_cast<std::size_t>(num_slots);
  }
  /// Of a column that the layout has.
  [[nodiscard]] constexpr std::size_t column_offset(AttentionColumn column) const {
    return columns_offset() + sizeof(float) * static_cast<std::size_t>(num_slots) *
                                  static_cast<std::size_t>(columns.place(column));
  }
  [[nodiscard]] constexpr std::size_t bounds_offset() const {
    return columns_offset() + sizeof(float) * static_cast<std::size_t>(num_slots) *
                                  static_cast<std::size_t>(columns.count());
  }
  [[nodiscard]] constexpr std::size_t bounds_bytes() const {
    return key_bounds ? 2 * sizeof(float) * static_cast<std::size_t>(value_stride()) : 0;
  }
  /// A multiple of 64, so that consecutive pages stay aligned to cache lines.
  [[nodiscard]] constexpr std::size_t page_bytes() const {
    return (bounds_offset() + bounds_bytes() + 63) / 64 * 64;
  }

  [[nodiscard]] constexpr bool operator==(const PageLayout&) const = default;
};

/// Throws InvalidArgument unless P is a positive multiple of kLanes and D is positive.
[[nodiscard]] inline PageLayout make_page_layout(std::int32_t num_slots, std::int32_t head_dim,
                                                 DType dtype, AttentionColumns columns = {},
                                                 bool key_bounds = false) {
  require(num_slots > 0 && num_slots % kLanes == 0, "page_layout", "page size = ", num_slots,
          " slots is not a positive multiple of ", kLanes);
  require(head_dim > 0, "page_layout", "head_dim = ", head_dim, " is not positive");
  return {num_slots, head_dim, dtype, columns, key_bounds};
}

}  // namespace pikv
