// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What one KV page is in memory. A page holds P slots of one stream, keys and values of one KV
// head:
//
//   [ K | scales of K | V | scales of V | position: P x int32 | columns: C x P x float |
//     bounds: 2 x Dp x float ]
//
// with Dp = D rounded up to kLanes, C columns of what the slots were used for, if any, and, if
// asked for, the smallest and the largest key of each channel (kernels/page_bounds.hpp).
//
// Keys lie channel by channel, D x P, so that one vector register holds one channel of kLanes
// slots: scores of a whole page come out of the product with no horizontal sum, and groups of a
// channel lie side by side. Values lie slot by slot, P x Dp, padded to whole vectors with zeros.
//
// Integers fill words of 32 bits, n = 32 / bits in each, the first one lowest: of keys, n channels
// of a slot, [ceil(D / n), P]; of values, n slots of a channel, [P / n, Dp]. So a register of words
// is unpacked by shifts alone, and products of bytes add up what belongs together.
//
// Scales are float16, [P / group, Dp] along channels or [ceil(D / group), P] along slots; for
// integers as many lows follow them.
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
#include "kernels/common/element_form.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

/// Slots (and value channels) are padded to this many, the floats of a 512-bit register.
inline constexpr std::int32_t kLanes = 16;

/// Later than every query, so the causal mask hides the slot.
inline constexpr std::int32_t kNoPosition = std::numeric_limits<std::int32_t>::max();

struct PageLayout {
  std::int32_t num_slots = 0;  // P
  std::int32_t head_dim = 0;   // D
  ElementForm keys = {};
  ElementForm values = {};
  AttentionColumns columns = {};
  bool key_bounds = false;

  [[nodiscard]] constexpr bool packed() const { return keys.packed() || values.packed(); }
  /// The type of all elements. Throws InvalidArgument where they are packed, or differ.
  [[nodiscard]] DType dtype() const {
    require(!packed() && keys == values, "page_layout", "keys in ", name(keys.element),
            " and values in ", name(values.element), " have no one element type");
    return keys.element == Element::kF32    ? DType::kF32
           : keys.element == Element::kBf16 ? DType::kBf16
                                            : DType::kF16;
  }

  /// Dp.
  [[nodiscard]] constexpr std::int32_t value_stride() const {
    return (head_dim + kLanes - 1) / kLanes * kLanes;
  }
  /// Numbers in one table of scales.
  [[nodiscard]] constexpr std::size_t num_scales(const ElementForm& form) const {
    switch (form.axis) {
      case ScaleAxis::kNone:
        return 0;
      case ScaleAxis::kPerChannel:
        return slots_times(value_stride()) / static_cast<std::size_t>(form.group);
      case ScaleAxis::kPerSlot:
        return slots_times((head_dim + form.group - 1) / form.group);
    }
    return 0;
  }
  [[nodiscard]] constexpr std::size_t key_scales_offset() const {
    const std::int32_t n = keys.codes_per_word();
    return keys.is_integer() ? slots_times((head_dim + n - 1) / n) * sizeof(std::uint32_t)
                             : slots_times(head_dim) * static_cast<std::size_t>(keys.bits()) / 8;
  }
  /// Keys and their scales.
  [[nodiscard]] constexpr std::size_t key_bytes() const {
    return key_scales_offset() + scale_bytes(keys);
  }
  [[nodiscard]] constexpr std::size_t value_offset() const { return key_bytes(); }
  [[nodiscard]] constexpr std::size_t value_scales_offset() const {
    return value_offset() +
           slots_times(value_stride()) * static_cast<std::size_t>(values.bits()) / 8;
  }
  [[nodiscard]] constexpr std::size_t position_offset() const {
    return value_scales_offset() + scale_bytes(values);
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

 private:
  [[nodiscard]] constexpr std::size_t slots_times(std::int32_t n) const {
    return static_cast<std::size_t>(num_slots) * static_cast<std::size_t>(n);
  }
  [[nodiscard]] constexpr std::size_t scale_bytes(const ElementForm& form) const {
    return num_scales(form) * sizeof(Half) * (form.is_integer() ? 2 : 1);
  }
};

/// Throws InvalidArgument unless P is a positive multiple of kLanes and D is positive, and groups
/// are multiples of kLanes, those along channels dividing P.
[[nodiscard]] inline PageLayout make_page_layout(std::int32_t num_slots, std::int32_t head_dim,
                                                 ElementForm keys, ElementForm values,
                                                 AttentionColumns columns = {},
                                                 bool key_bounds = false) {
  require(num_slots > 0 && num_slots % kLanes == 0, "page_layout", "page size = ", num_slots,
          " slots is not a positive multiple of ", kLanes);
  require(head_dim > 0, "page_layout", "head_dim = ", head_dim, " is not positive");
  for (const ElementForm& form : {keys, values}) {
    if (!form.packed()) continue;
    require(form.group > 0 && form.group % kLanes == 0, "page_layout", "a group of ", form.group,
            " is not a positive multiple of ", kLanes);
    require(form.axis != ScaleAxis::kPerChannel || num_slots % form.group == 0, "page_layout",
            "a group of ", form.group, " slots does not divide a page of ", num_slots);
  }
  return {num_slots, head_dim, keys, values, columns, key_bounds};
}

[[nodiscard]] inline PageLayout make_page_layout(std::int32_t num_slots, std::int32_t head_dim,
                                                 DType dtype, AttentionColumns columns = {},
                                                 bool key_bounds = false) {
  return make_page_layout(num_slots, head_dim, ElementForm(dtype), ElementForm(dtype), columns,
                          key_bounds);
}

}  // namespace pikv
