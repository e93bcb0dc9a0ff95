// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How the elements of keys, or of values, are stored in a page: as they are, or as codes of 8, 4 or
// 2 bits that share a scale with their neighbours; and how many of the channels are.
//
//   integers   x = low + scale * code,   code in [0, 2^bits - 1]
//   fp8        x = scale * code,         code a number in e4m3 or e5m2 (2209.05433)
//
// Scale and low are float16. They belong to a group: consecutive slots of one channel (kPerChannel)
// or consecutive channels of one slot (kPerSlot). Keys have channels of their own size, so groups
// along a channel lose least; values do not (Liu et al. 2024, KIVI, 2402.02750).
//
// Channels from `channels` on are not stored and count as zero: what a basis that puts the channels
// with most in them first makes cheap (core/policy/basis.hpp).
//
// Keys may be stored as they were before RoPE (`pre_rope`), where they are of much lower rank than
// after it (Chang et al. 2024, Palu, 2407.21118; Sun et al. 2024, ShadowKV, 2410.21465):
//
//   stored   z = (R(-p) k) in[:, :r]      read   k' = R(p) (z in[:, :r]^T)
//
// with p the position of the slot, R(p) the rotation of RoPE there and `in` [D, D] orthonormal,
// which comes beside the page (StreamView::key_basis).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/common/dtype.hpp"

namespace pikv {

enum class Element : std::uint8_t { kF32, kBf16, kF16, kE4m3, kE5m2, kInt8, kInt4, kInt2 };

enum class ScaleAxis : std::uint8_t { kNone, kPerChannel, kPerSlot };

struct ElementForm {
  Element element = Element::kF32;
  ScaleAxis axis = ScaleAxis::kNone;
  std::int32_t group = 0;     // slots (kPerChannel) or channels (kPerSlot) that share a scale
  std::int32_t channels = 0;  // that are stored, the first ones; 0: all
  bool pre_rope = false;      // keys: coordinates of what they were before RoPE

  constexpr ElementForm() = default;
  constexpr ElementForm(DType dtype)  // NOLINT: a type is a form
      : element(dtype == DType::kF32    ? Element::kF32
                : dtype == DType::kBf16 ? Element::kBf16
                                        : Element::kF16) {}
  constexpr ElementForm(Element code, ScaleAxis scale_axis, std::int32_t group_size)
      : element(code), axis(scale_axis), group(group_size) {}

  /// The same with fewer channels.
  [[nodiscard]] constexpr ElementForm with_channels(std::int32_t count) const {
    ElementForm form = *this;
    form.channels = count;
    return form;
  }

  /// The same of keys before RoPE.
  [[nodiscard]] constexpr ElementForm with_pre_rope() const {
    ElementForm form = *this;
    form.pre_rope = true;
    return form;
  }

  [[nodiscard]] constexpr bool packed() const { return axis != ScaleAxis::kNone; }
  [[nodiscard]] constexpr std::int32_t bits() const {
    switch (element) {
      case Element::kF32:
        return 32;
      case Element::kBf16:
      case Element::kF16:
        return 16;
      case Element::kE4m3:
      case Element::kE5m2:
      case Element::kInt8:
        return 8;
      case Element::kInt4:
        return 4;
      case Element::kInt2:
        return 2;
    }
    return 0;
  }
  [[nodiscard]] constexpr bool is_integer() const {
    return element == Element::kInt8 || element == Element::kInt4 || element == Element::kInt2;
  }
  /// Integers lie side by side in words of 32 bits.
  [[nodiscard]] constexpr std::int32_t codes_per_word() const { return 32 / bits(); }

  [[nodiscard]] constexpr bool operator==(const ElementForm&) const = default;
};

[[nodiscard]] constexpr std::string_view name(Element element) {
  switch (element) {
    case Element::kF32:
      return "f32";
    case Element::kBf16:
      return "bf16";
    case Element::kF16:
      return "f16";
    case Element::kE4m3:
      return "e4m3";
    case Element::kE5m2:
      return "e5m2";
    case Element::kInt8:
      return "int8";
    case Element::kInt4:
      return "int4";
    case Element::kInt2:
      return "int2";
  }
  return "?";
}

}  // namespace pikv
