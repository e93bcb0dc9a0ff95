// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What one KV page is in memory. A page holds P slots of one stream, keys and values of one KV
// head:
//
//   [ K | scales of K | V | scales of V | position: P x int32 | columns: C x P x float |
//     bounds: 2 x Db x float ]
//
// with C columns of what the slots were used for, if any, and, if asked for, the smallest and the
// largest key of each channel (kernels/page_bounds.hpp). Heads have D channels; a form may store
// the first ones only. Dk and Dv are the stored channels of keys and of values, rounded up to
// kLanes. Bounds are of the keys that queries meet: Db is Dk, and D rounded up where keys are
// stored as they were before RoPE.
//
// Keys lie channel by channel, D x P, so that one vector register holds one channel of kLanes
// slots: scores of a whole page come out of the product with no horizontal sum, and groups of a
// channel lie side by side. Values lie slot by slot, P x Dv, padded to whole vectors with zeros.
//
// Integers fill words of 32 bits, n = 32 / bits in each, the first one lowest: of keys, n channels
// of a slot, [ceil(D / n), P]; of values, n slots of a channel, [P / n, Dv]. So a register of words
// is unpacked by shifts alone, and products of bytes add up what belongs together.
//
// Scales are float16, [P / group, Dk or Dv] along channels or [ceil(D / group), P] along slots; for
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

/// Made by make_page_layout, never changed: the offsets belong to the rest.
struct PageLayout {
  std::int32_t num_slots = 0;  // P
  std::int32_t head_dim = 0;   // D
  ElementForm keys = {};
  ElementForm values = {};
  AttentionColumns columns = {};
  bool key_bounds = false;

  [[nodiscard]] constexpr bool packed() const { return keys.packed() || values.packed(); }
  [[nodiscard]] constexpr std::int32_t key_channels() const { return channels_of(keys); }
  [[nodiscard]] constexpr std::int32_t value_channels() const { return channels_of(values); }
  /// Of the keys that queries are multiplied with: those that are stored, or all of keys that are
  /// rebuilt from what they were before RoPE.
  [[nodiscard]] constexpr std::int32_t scored_channels() const {
    return keys.pre_rope ? head_dim : key_channels();
  }
  /// Whether rows are stored as they are, all channels in one type.
  [[nodiscard]] constexpr bool plain() const {
    return !packed() && !keys.pre_rope && keys.element == values.element &&
           key_channels() == head_dim && value_channels() == head_dim;
  }
  /// The type of all elements. Throws InvalidArgument unless plain().
  [[nodiscard]] DType dtype() const {
    require(plain(), "page_layout", key_channels(), " channels of keys",
            keys.pre_rope ? " before RoPE in " : " in ", name(keys.element), " and ",
            value_channels(), " of values in ", name(values.element),
            " are not whole rows of one element type");
    return keys.element == Element::kF32    ? DType::kF32
           : keys.element == Element::kBf16 ? DType::kBf16
                                            : DType::kF16;
  }

  /// All channels, rounded up to kLanes.
  [[nodiscard]] constexpr std::int32_t full_stride() const { return padded(head_dim); }
  /// Dk.
  [[nodiscard]] constexpr std::int32_t key_stride() const { return padded(key_channels()); }
  /// Dv.
  [[nodiscard]] constexpr std::int32_t value_stride() const { return padded(value_channels()); }
  /// Db.
  [[nodiscard]] constexpr std::int32_t bounds_stride() const { return padded(scored_channels()); }
  /// Numbers in one table of scales.
  [[nodiscard]] constexpr std::size_t num_scales(const ElementForm& form) const {
    const std::int32_t count = channels_of(form);
    switch (form.axis) {
      case ScaleAxis::kNone:
        return 0;
      case ScaleAxis::kPerChannel:
        return slots_times(padded(count)) / static_cast<std::size_t>(form.group);
      case ScaleAxis::kPerSlot:
        return slots_times((count + form.group - 1) / form.group);
    }
    return 0;
  }
  /// Where the parts of a page begin, in bytes. Readers ask for every page, so make_page_layout
  /// works them out once: there are divisions in it.
  struct Offsets {
    std::size_t key_scales = 0;
    std::size_t key_lows = 0;
    std::size_t values = 0;
    std::size_t value_scales = 0;
    std::size_t value_lows = 0;
    std::size_t positions = 0;
    std::size_t columns = 0;
    std::size_t bounds = 0;
    std::size_t page = 0;  // where the next page begins

    [[nodiscard]] constexpr bool operator==(const Offsets&) const = default;
  };
  Offsets offsets = {};

  [[nodiscard]] constexpr std::size_t key_scales_offset() const { return offsets.key_scales; }
  /// Keys and their scales.
  [[nodiscard]] constexpr std::size_t key_bytes() const { return offsets.values; }
  [[nodiscard]] constexpr std::size_t value_offset() const { return offsets.values; }
  [[nodiscard]] constexpr std::size_t value_scales_offset() const { return offsets.value_scales; }
  [[nodiscard]] constexpr std::size_t position_offset() const { return offsets.positions; }
  [[nodiscard]] constexpr std::size_t columns_offset() const { return offsets.columns; }
  /// Of a column that the layout has.
  [[nodiscard]] constexpr std::size_t column_offset(AttentionColumn column) const {
    return columns_offset() + sizeof(float) * static_cast<std::size_t>(num_slots) *
                                  static_cast<std::size_t>(columns.place(column));
  }
  [[nodiscard]] constexpr std::size_t bounds_offset() const { return offsets.bounds; }
  [[nodiscard]] constexpr std::size_t bounds_bytes() const {
    return key_bounds ? 2 * sizeof(float) * static_cast<std::size_t>(bounds_stride()) : 0;
  }
  /// A multiple of 64, so that consecutive pages stay aligned to cache lines.
  [[nodiscard]] constexpr std::size_t page_bytes() const { return offsets.page; }

  /// What `offsets` is to be, given the rest.
  [[nodiscard]] constexpr Offsets work_out_offsets() const {
    const auto bits_times = [](std::size_t count, const ElementForm& form) {
      return count * static_cast<std::size_t>(form.bits()) / 8;
    };
    const std::int32_t n = keys.codes_per_word();
    Offsets at;
    at.key_scales = keys.is_integer()
                        ? slots_times((key_channels() + n - 1) / n) * sizeof(std::uint32_t)
                        : bits_times(slots_times(key_channels()), keys);
    at.key_lows = at.key_scales + num_scales(keys) * sizeof(Half);
    at.values = at.key_scales + scale_bytes(keys);
    at.value_scales = at.values + bits_times(slots_times(value_stride()), values);
    at.value_lows = at.value_scales + num_scales(values) * sizeof(Half);
    at.positions = at.value_scales + scale_bytes(values);
    at.columns = at.positions + slots_times(1) * sizeof(std::int32_t);
    at.bounds =
        at.columns + slots_times(1) * sizeof(float) * static_cast<std::size_t>(columns.count());
    at.page = (at.bounds + bounds_bytes() + 63) / 64 * 64;
    return at;
  }

  [[nodiscard]] constexpr bool operator==(const PageLayout&) const = default;

 private:
  [[nodiscard]] constexpr std::int32_t channels_of(const ElementForm& form) const {
    return form.channels > 0 ? form.channels : head_dim;
  }
  [[nodiscard]] static constexpr std::int32_t padded(std::int32_t count) {
    return (count + kLanes - 1) / kLanes * kLanes;
  }
  [[nodiscard]] constexpr std::size_t slots_times(std::int32_t n) const {
    return static_cast<std::size_t>(num_slots) * static_cast<std::size_t>(n);
  }
  [[nodiscard]] constexpr std::size_t scale_bytes(const ElementForm& form) const {
    return num_scales(form) * sizeof(Half) * (form.is_integer() ? 2 : 1);
  }
};

/// Throws InvalidArgument unless P is a positive multiple of kLanes and D is positive, and groups
/// are multiples of kLanes, those along channels dividing P, and channels that are stored all, or
/// fewer and a multiple of kLanes. Only keys are stored as they were before RoPE, and of even D.
[[nodiscard]] inline PageLayout make_page_layout(std::int32_t num_slots, std::int32_t head_dim,
                                                 ElementForm keys, ElementForm values,
                                                 AttentionColumns columns = {},
                                                 bool key_bounds = false) {
  require(num_slots > 0 && num_slots % kLanes == 0, "page_layout", "page size = ", num_slots,
          " slots is not a positive multiple of ", kLanes);
  require(head_dim > 0, "page_layout", "head_dim = ", head_dim, " is not positive");
  for (ElementForm* form : {&keys, &values}) {
    require(form->channels >= 0 && form->channels <= head_dim &&
                (form->channels % kLanes == 0 || form->channels == head_dim),
            "page_layout", form->channels, " channels of ", head_dim,
            " are neither all nor a multiple of ", kLanes);
    if (form->channels == head_dim) form->channels = 0;
  }
  require(!values.pre_rope, "page_layout", "values have no position to be turned back from");
  require(!keys.pre_rope || head_dim % 2 == 0, "page_layout", "head_dim = ", head_dim,
          " of keys before RoPE is not even");
  for (const ElementForm& form : {keys, values}) {
    if (!form.packed()) continue;
    require(form.group > 0 && form.group % kLanes == 0, "page_layout", "a group of ", form.group,
            " is not a positive multiple of ", kLanes);
    require(form.axis != ScaleAxis::kPerChannel || num_slots % form.group == 0, "page_layout",
            "a group of ", form.group, " slots does not divide a page of ", num_slots);
  }
  PageLayout layout{.num_slots = num_slots,
                    .head_dim = head_dim,
                    .keys = keys,
                    .values = values,
                    .columns = columns,
                    .key_bounds = key_bounds};
  layout.offsets = layout.work_out_offsets();
  return layout;
}

[[nodiscard]] inline PageLayout make_page_layout(std::int32_t num_slots, std::int32_t head_dim,
                                                 DType dtype, AttentionColumns columns = {},
                                                 bool key_bounds = false) {
  return make_page_layout(num_slots, head_dim, ElementForm(dtype), ElementForm(dtype), columns,
                          key_bounds);
}

}  // namespace pikv
