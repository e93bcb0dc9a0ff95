// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codes of packed elements, sixteen at a time: how they become numbers and numbers become
// codes, and how they lie. Each kind of code has
//
//   kHasLow        integers: x = low + scale * code
//   kLargest       the largest number that a code stands for, in units of the scale
//   kUnit          what load_*() gives is to be multiplied by this
//   load_slots     channel d of 16 slots of keys; load_channels: 16 channels of a slot of values
//   encode         the nearest codes to numbers in units of the scale, saturating
//   store_slots, store_channels   the inverse of load_*
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/element_form.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {

using U8x16 = std::uint8_t __attribute__((vector_size(16)));

inline U32x16 load_bytes(const std::byte* from) {
#if defined(__AVX512F__)  // GCC 12 widens half a register at a time
  return (U32x16)_mm512_maskz_cvtepu8_epi32(0xffff, (__m128i)load_as<U8x16>(from));
#else
  return __builtin_convertvector(load_as<U8x16>(from), U32x16);
#endif
}
inline void store_bytes(std::byte* to, U32x16 v) {
  store_as(to, __builtin_convertvector(v, U8x16));
}

/// A byte a code, at the place of the element.
template <class Derived>
struct ByteCode {
  static F32x16 load_slots(const std::byte* keys, std::ptrdiff_t num_slots, std::ptrdiff_t d,
                           std::ptrdiff_t slot) {
    return Derived::widen(load_bytes(keys + d * num_slots + slot));
  }
  static F32x16 load_channels(const std::byte* values, std::ptrdiff_t stride, std::ptrdiff_t slot,
                              std::ptrdiff_t c) {
    return Derived::widen(load_bytes(values + slot * stride + c));
  }
  static void store_slots(std::byte* keys, std::ptrdiff_t num_slots, std::ptrdiff_t d,
                          std::ptrdiff_t slot, U32x16 codes) {
    store_bytes(keys + d * num_slots + slot, codes);
  }
  static void store_channels(std::byte* values, std::ptrdiff_t stride, std::ptrdiff_t slot,
                             std::ptrdiff_t c, U32x16 codes) {
    store_bytes(values + slot * stride + c, codes);
  }
};

template <int kBits>
U32x16 nearest_integers(F32x16 x) {
  constexpr auto kMax = static_cast<float>((1 << kBits) - 1);
  return (U32x16)nearest(min(max(x, F32x16{}), broadcast(kMax)));
}

/// Integers of kBits, 32 / kBits of them in a word: of keys channels of a slot, of values slots of
/// a channel.
template <int kBits>
struct WordCode {
  static constexpr bool kHasLow = true;
  static constexpr float kLargest = static_cast<float>((1 << kBits) - 1);
  static constexpr float kUnit = 1.0f;
  static constexpr int kNumBits = kBits;
  static constexpr std::ptrdiff_t kPerWord = 32 / kBits;
  static constexpr std::uint32_t kMask = (1u << kBits) - 1;

  static F32x16 load_slots(const std::byte* keys, std::ptrdiff_t num_slots, std::ptrdiff_t d,
                           std::ptrdiff_t slot) {
    return load_code(word_at(keys, d / kPerWord * num_slots + slot), d % kPerWord);
  }
  static F32x16 load_channels(const std::byte* values, std::ptrdiff_t stride, std::ptrdiff_t slot,
                              std::ptrdiff_t c) {
    return load_code(word_at(values, slot / kPerWord * stride + c), slot % kPerWord);
  }
  static U32x16 encode(F32x16 x) { return nearest_integers<kBits>(x); }
  static void store_slots(std::byte* keys, std::ptrdiff_t num_slots, std::ptrdiff_t d,
                          std::ptrdiff_t slot, U32x16 codes) {
    store_code(word_at(keys, d / kPerWord * num_slots + slot), d % kPerWord, codes);
  }
  static void store_channels(std::byte* values, std::ptrdiff_t stride, std::ptrdiff_t slot,
                             std::ptrdiff_t c, U32x16 codes) {
    store_code(word_at(values, slot / kPerWord * stride + c), slot % kPerWord, codes);
  }

 private:
  template <class Byte>
  static Byte* word_at(Byte* from, std::ptrdiff_t i) {
    return from + i * static_cast<std::ptrdiff_t>(sizeof(std::uint32_t));
  }
  static F32x16 load_code(const std::byte* words, std::ptrdiff_t i) {
    const U32x16 code = (load_as<U32x16>(words) >> static_cast<std::uint32_t>(i * kBits)) & kMask;
    return __builtin_convertvector((I32x16)code, F32x16);
  }
  /// Codes of a word are stored in ascending order: the first clears what was there.
  static void store_code(std::byte* words, std::ptrdiff_t i, U32x16 codes) {
    const U32x16 before = i == 0 ? U32x16{} : load_as<U32x16>(words);
    store_as(words, before | codes << static_cast<std::uint32_t>(i * kBits));
  }
};
using Int8Code = WordCode<8>;
using Int4Code = WordCode<4>;
using Int2Code = WordCode<2>;

/// One sign bit, kExponent bits of exponent and kMantissa of mantissa, bias 2^(kExponent - 1) - 1
/// (Micikevicius et al. 2022, 2209.05433); NaN and infinity are never written.
template <int kExponent, int kMantissa, int kLargestNumber>
struct Fp8Code : ByteCode<Fp8Code<kExponent, kMantissa, kLargestNumber>> {
  static constexpr int kBias = (1 << (kExponent - 1)) - 1;
  static constexpr bool kHasLow = false;
  static constexpr auto kLargest = static_cast<float>(kLargestNumber);
  // Read as float16, which has a bias of 15.
  static constexpr auto kUnit = static_cast<float>(1 << (15 - kBias));

  static F32x16 widen(U32x16 codes) {
    return widen_halves(((codes & 0x80u) << 8) | (codes & 0x7fu) << (10 - kMantissa));
  }
  static U32x16 encode(F32x16 x) {
    const U32x16 sign = ((U32x16)x >> 24) & 0x80u;
    const F32x16 magnitude = min(x < 0.0f ? -x : x, broadcast(kLargest));
    // Subnormal codes: adding this number lines their unit up with the last bit.
    constexpr auto kAligned = static_cast<float>(1 << (23 - (kBias + kMantissa - 1)));
    const U32x16 small = (U32x16)(magnitude + kAligned) - (U32x16)broadcast(kAligned);
    constexpr std::uint32_t kShift = 23 - kMantissa;
    const auto bits = (U32x16)magnitude;
    const U32x16 rounded = bits + ((1u << (kShift - 1)) - 1) + ((bits >> kShift) & 1u);
    const U32x16 normal =
        (rounded >> kShift) - (static_cast<std::uint32_t>(127 - kBias) << kMantissa);
    const float smallest_normal = 1.0f / static_cast<float>(1 << (kBias - 1));
    return sign | (magnitude < smallest_normal ? small : normal);
  }
};
using E4m3Code = Fp8Code<4, 3, 448>;
using E5m2Code = Fp8Code<5, 2, 57344>;

/// Calls plain.operator()<T>() with an element type or packed.operator()<Code>() with a kind of
/// code.
template <class Plain, class Packed>
void dispatch_element(Element element, const Plain& plain, const Packed& packed) {
  switch (element) {
    case Element::kF32:
      return plain.template operator()<float>();
    case Element::kBf16:
      return plain.template operator()<BFloat16>();
    case Element::kF16:
      return plain.template operator()<Half>();
    case Element::kE4m3:
      return packed.template operator()<E4m3Code>();
    case Element::kE5m2:
      return packed.template operator()<E5m2Code>();
    case Element::kInt8:
      return packed.template operator()<Int8Code>();
    case Element::kInt4:
      return packed.template operator()<Int4Code>();
    case Element::kInt2:
      return packed.template operator()<Int2Code>();
  }
  throw InvalidArgument("dispatch: unknown element");
}

}  // namespace pikv::kernels::cpu
