// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a page holds, read number by number as kernels/common/page_layout.hpp says.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/common/page_layout.hpp"

namespace pikv::reference {

/// 8-bit floats of `mantissa` bits (2209.05433), by their definition.
inline float fp8_to_float(std::uint8_t code, int mantissa) {
  const int exponent_bits = 7 - mantissa;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (code & 0x7f) >> mantissa;
  const int fraction = code & ((1 << mantissa) - 1);
  const double unit = std::ldexp(1.0, -mantissa);
  const double magnitude = exponent == 0 ? std::ldexp(fraction * unit, 1 - bias)
                                         : std::ldexp(1.0 + fraction * unit, exponent - bias);
  return static_cast<float>((code & 0x80) != 0 ? -magnitude : magnitude);
}

class PageReader {
 public:
  PageReader(const PageLayout& layout, const std::byte* page) : layout_(layout), page_(page) {}

  struct Number {
    float value = 0;
    float scale = 0;  // of its group; 0 for plain elements
  };
  [[nodiscard]] Number key(std::int32_t slot, std::int32_t d) const {
    return number(layout_.keys, 0, layout_.key_scales_offset(), slot, d, /*is_key=*/true);
  }
  [[nodiscard]] Number value(std::int32_t slot, std::int32_t c) const {
    return number(layout_.values, layout_.value_offset(), layout_.value_scales_offset(), slot, c,
                  /*is_key=*/false);
  }
  [[nodiscard]] std::int32_t position(std::int32_t slot) const {
    return read<std::int32_t>(layout_.position_offset(), static_cast<std::size_t>(slot));
  }

 private:
  template <class T>
  [[nodiscard]] T read(std::size_t offset, std::size_t i) const {
    T result;
    std::memcpy(&result, page_ + offset + i * sizeof(T), sizeof(T));
    return result;
  }

  [[nodiscard]] Number number(const ElementForm& form, std::size_t offset, std::size_t scales,
                              std::int32_t slot, std::int32_t channel, bool is_key) const {
    const auto p = static_cast<std::size_t>(layout_.num_slots);
    if (form.channels > 0 && channel >= form.channels) return {};
    const auto stride =
        static_cast<std::size_t>(is_key ? layout_.key_stride() : layout_.value_stride());
    const auto s = static_cast<std::size_t>(slot);
    const auto c = static_cast<std::size_t>(channel);
    const std::size_t i = is_key ? c * p + s : s * stride + c;
    if (form.element == Element::kF32) return {read<float>(offset, i)};
    if (form.element == Element::kBf16) return {to_float(read<BFloat16>(offset, i))};
    if (form.element == Element::kF16) return {to_float(read<Half>(offset, i))};

    const auto group = static_cast<std::size_t>(form.group);
    const std::size_t at =
        form.axis == ScaleAxis::kPerChannel ? s / group * stride + c : c / group * p + s;
    const float scale = to_float(read<Half>(scales, at));
    if (!form.is_integer()) {
      const auto code = read<std::uint8_t>(offset, i);
      return {scale * fp8_to_float(code, form.element == Element::kE4m3 ? 3 : 2), scale};
    }
    const float low = to_float(read<Half>(scales, layout_.num_scales(form) + at));
    const auto n = static_cast<std::size_t>(form.codes_per_word());
    const std::size_t word = is_key ? c / n * p + s : s / n * stride + c;
    const std::size_t place = (is_key ? c : s) % n;
    const auto bits = static_cast<std::size_t>(form.bits());
    const std::uint32_t code =
        read<std::uint32_t>(offset, word) >> (place * bits) & ((1u << bits) - 1);
    return {low + scale * static_cast<float>(code), scale};
  }

  const PageLayout& layout_;
  const std::byte* page_;
};

/// Every packed form of a page of `num_slots` slots: each element, both axes, groups of some sizes.
inline std::vector<ElementForm> packed_forms(std::int32_t num_slots) {
  std::vector<ElementForm> forms;
  for (const Element element :
       {Element::kE4m3, Element::kE5m2, Element::kInt8, Element::kInt4, Element::kInt2}) {
    for (std::int32_t group = kLanes; group <= num_slots; group *= 2) {
      forms.emplace_back(element, ScaleAxis::kPerChannel, group);
    }
    for (const std::int32_t group : {16, 64}) {
      forms.emplace_back(element, ScaleAxis::kPerSlot, group);
    }
  }
  return forms;
}

/// Forms that store some of 80 channels: every element, plain ones too.
inline std::vector<ElementForm> narrow_forms() {
  std::vector<ElementForm> forms;
  for (const std::int32_t channels : {16, 48, 64}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      forms.push_back(ElementForm(dtype).with_channels(channels));
    }
    for (const ElementForm& form : packed_forms(32)) forms.push_back(form.with_channels(channels));
  }
  return forms;
}

/// Forms of keys before RoPE of heads of this size: every kind of element, every rank.
inline std::vector<ElementForm> pre_rope_forms(std::int32_t head_dim) {
  std::vector<ElementForm> forms;
  for (std::int32_t channels = 0; channels < head_dim; channels += kLanes) {
    for (const ElementForm& form :
         std::initializer_list<ElementForm>{DType::kF32,
                                            DType::kBf16,
                                            DType::kF16,
                                            {Element::kInt8, ScaleAxis::kPerChannel, 16},
                                            {Element::kInt4, ScaleAxis::kPerSlot, 64},
                                            {Element::kE4m3, ScaleAxis::kPerSlot, 16}}) {
      forms.push_back(form.with_channels(channels).with_pre_rope());
    }
  }
  return forms;
}

}  // namespace pikv::reference
