// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Single numbers of a page in any form (kernels/common/page_layout.hpp says how they lie), and the
// codes of packed ones. What kernels/cpu/codes.hpp does sixteen at a time, with the same roundings.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/page.cuh"

namespace pikv::kernels::cuda {

/// Properties of codes, or of plain elements, at compile time.
template <Element kElement>
struct ElementTraits {
  static constexpr bool kIsFp8 = kElement == Element::kE4m3 || kElement == Element::kE5m2;
  static constexpr bool kIsInteger =
      kElement == Element::kInt8 || kElement == Element::kInt4 || kElement == Element::kInt2;
  static constexpr bool kIsPacked = kIsFp8 || kIsInteger;
  static constexpr int kBits =
      kElement == Element::kInt2 ? 2 : (kElement == Element::kInt4 ? 4 : 8);  // of a code
  static constexpr int kPerWord = 32 / kBits;
  static constexpr std::uint32_t kMask = (1u << kBits) - 1;
  /// The largest number that a code stands for, in units of the scale.
  static constexpr float kLargest = kElement == Element::kE4m3   ? 448.0f
                                    : kElement == Element::kE5m2 ? 57344.0f
                                                                 : static_cast<float>(kMask);
  // Of fp8:
  static constexpr int kMantissa = kElement == Element::kE4m3 ? 3 : 2;
  static constexpr int kBias = kElement == Element::kE4m3 ? 7 : 15;
};

/// Calls f.template operator()<E>() with the element; all threads of a warp have the same one.
template <class F>
__device__ __forceinline__ decltype(auto) with_element(Element element, F&& f) {
  switch (element) {
    case Element::kF32:
      return f.template operator()<Element::kF32>();
    case Element::kBf16:
      return f.template operator()<Element::kBf16>();
    case Element::kF16:
      return f.template operator()<Element::kF16>();
    case Element::kE4m3:
      return f.template operator()<Element::kE4m3>();
    case Element::kE5m2:
      return f.template operator()<Element::kE5m2>();
    case Element::kInt8:
      return f.template operator()<Element::kInt8>();
    case Element::kInt4:
      return f.template operator()<Element::kInt4>();
    default:
      return f.template operator()<Element::kInt2>();
  }
}

/// A plain element at `i`, or an fp8 code in units of its scale.
template <Element kElement>
__device__ __forceinline__ float element_at(const std::byte* __restrict__ from, std::int64_t i) {
  if constexpr (kElement == Element::kF32) {
    return reinterpret_cast<const float*>(from)[i];
  } else if constexpr (kElement == Element::kBf16) {
    return widen(reinterpret_cast<const BFloat16*>(from)[i]);
  } else if constexpr (kElement == Element::kF16) {
    return widen(reinterpret_cast<const Half*>(from)[i]);
  } else {
    // The code as the upper bits of a float16, which has a bias of 15.
    using Traits = ElementTraits<kElement>;
    const std::uint32_t code = reinterpret_cast<const std::uint8_t*>(from)[i];
    const std::uint32_t bits = ((code & 0x80u) << 8) | (code & 0x7fu) << (10 - Traits::kMantissa);
    return widen(Half{static_cast<std::uint16_t>(bits)}) *
           static_cast<float>(1 << (15 - Traits::kBias));
  }
}

/// Which scale of the table a number of keys or of values has.
template <bool kIsKey>
__device__ __forceinline__ std::int64_t scale_index(const OperandShape& shape,
                                                    std::int32_t num_slots, std::int32_t slot,
                                                    std::int32_t channel) {
  return shape.axis == ScaleAxis::kPerChannel
             ? std::int64_t{slot / shape.group} * shape.stride + channel
             : std::int64_t{channel / shape.group} * num_slots + slot;
}

/// The number at (slot, channel) of keys or of values; channel < shape.channels, or of values in
/// their padding.
template <Element kElement, bool kIsKey>
__device__ __forceinline__ float number_at(const OperandShape& shape, std::int32_t num_slots,
                                           const std::byte* __restrict__ page, std::int32_t slot,
                                           std::int32_t channel) {
  using Traits = ElementTraits<kElement>;
  const std::byte* codes = page + shape.codes_bytes;
  const std::int64_t i = kIsKey ? std::int64_t{channel} * num_slots + slot
                                : std::int64_t{slot} * shape.stride + channel;
  if constexpr (!Traits::kIsPacked) {
    return element_at<kElement>(codes, i);
  } else {
    const auto* scales = reinterpret_cast<const Half*>(page + shape.scales_bytes);
    const std::int64_t at = scale_index<kIsKey>(shape, num_slots, slot, channel);
    const float scale = widen(scales[at]);
    if constexpr (Traits::kIsFp8) {
      return element_at<kElement>(codes, i) * scale;
    } else {
      constexpr int n = Traits::kPerWord;
      const std::int64_t word = kIsKey ? std::int64_t{channel / n} * num_slots + slot
                                       : std::int64_t{slot / n} * shape.stride + channel;
      const int place = (kIsKey ? channel : slot) % n;
      const std::uint32_t code =
          reinterpret_cast<const std::uint32_t*>(codes)[word] >> (place * Traits::kBits) &
          Traits::kMask;
      return fmaf(static_cast<float>(code), scale, widen(scales[shape.num_scales + at]));
    }
  }
}

/// The same with the element known at run time; 0 for channels that are not stored.
template <bool kIsKey>
__device__ __forceinline__ float number_at(const OperandShape& shape, std::int32_t num_slots,
                                           const std::byte* __restrict__ page, std::int32_t slot,
                                           std::int32_t channel) {
  if (channel >= shape.channels) return 0.0f;
  return with_element(shape.element, [&]<Element kElement>() {
    return number_at<kElement, kIsKey>(shape, num_slots, page, slot, channel);
  });
}

/// The nearest code to a number in units of the scale, saturating.
template <Element kElement>
__device__ __forceinline__ std::uint32_t encode(float x) {
  using Traits = ElementTraits<kElement>;
  if constexpr (Traits::kIsInteger) {
    return static_cast<std::uint32_t>(__float2int_rn(fminf(fmaxf(x, 0.0f), Traits::kLargest)));
  } else {
    constexpr int kMantissa = Traits::kMantissa;
    constexpr int kBias = Traits::kBias;
    const std::uint32_t sign = (__float_as_uint(x) >> 24) & 0x80u;
    const float magnitude = fminf(fabsf(x), Traits::kLargest);
    if (magnitude < 1.0f / static_cast<float>(1 << (kBias - 1))) {
      // Subnormal codes: adding this number lines their unit up with the last bit.
      constexpr auto kAligned = static_cast<float>(1 << (23 - (kBias + kMantissa - 1)));
      return sign | (__float_as_uint(magnitude + kAligned) - __float_as_uint(kAligned));
    }
    constexpr int kShift = 23 - kMantissa;
    const std::uint32_t bits = __float_as_uint(magnitude);
    const std::uint32_t rounded = bits + ((1u << (kShift - 1)) - 1) + ((bits >> kShift) & 1u);
    return sign | ((rounded >> kShift) - (static_cast<std::uint32_t>(127 - kBias) << kMantissa));
  }
}

}  // namespace pikv::kernels::cuda
