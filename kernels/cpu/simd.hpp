// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sixteen floats at a time, on the compiler's vector extensions: one 512-bit register where the
// machine has them, two or four narrower ones elsewhere. No instruction set is named except for
// what the compiler does not find by itself in 16-bit numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "kernels/common/dtype.hpp"

namespace pikv::kernels::cpu {

using F32x16 = float __attribute__((vector_size(64)));
using I32x16 = std::int32_t __attribute__((vector_size(64)));
using U32x16 = std::uint32_t __attribute__((vector_size(64)));
using U16x16 = std::uint16_t __attribute__((vector_size(32)));

inline constexpr std::int64_t kVecLanes = 16;

/// How many vectors wide a block of `kRows` rows of sums is, so that all of them stay in registers:
/// AVX-512 has 32 of a vector each; elsewhere 16 hold half of one. A row alone is as wide
/// everywhere, for with fewer sums each addition would wait for the one before.
#if defined(__AVX512F__)
template <int kRows>
inline constexpr int kBlockVectors = 4;
#else
template <int kRows>
inline constexpr int kBlockVectors = kRows == 1 ? 4 : 1;
#endif

template <class Vector, class T>
inline Vector load_as(const T* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class Vector, class T>
inline void store_as(T* to, Vector v) {
  std::memcpy(to, &v, sizeof v);
}

inline F32x16 broadcast(float x) { return F32x16{} + x; }

inline F32x16 load(const float* from) { return load_as<F32x16>(from); }

inline F32x16 load(const BFloat16* from) {
#if defined(__AVX512F__)  // GCC 12 widens half a register at a time
  const auto wide = (U32x16)_mm512_maskz_cvtepu16_epi32(
      0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#else
  const U32x16 wide = __builtin_convertvector(load_as<U16x16>(from), U32x16);
#endif
  return (F32x16)(wide << 16);
}

inline F32x16 load(const Half* from) {
#if defined(__AVX512F__)
  return (F32x16)_mm512_maskz_cvtph_ps(0xffff,
                                       _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#else
  float wide[16];
  for (int i = 0; i < 16; ++i) wide[i] = to_float(from[i]);
  return load(wide);
#endif
}

/// Sixteen float16, in the low halves of 32-bit lanes.
inline F32x16 widen_halves(U32x16 bits) {
#if defined(__AVX512F__)
  return (F32x16)_mm512_maskz_cvtph_ps(0xffff, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)bits));
#else
  float wide[16];
  for (int i = 0; i < 16; ++i) wide[i] = to_float(Half{static_cast<std::uint16_t>(bits[i])});
  return load(wide);
#endif
}

/// Sixteen pairs of bfloat16, (even_i, odd_i), each rounded to nearest, ties to even.
inline U32x16 round_pairs(F32x16 even, F32x16 odd) {
  const auto round = [](F32x16 x) {
    const auto bits = (U32x16)x;
    const U32x16 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return x == x ? rounded : bits | 0x400000u;  // NaN stays NaN
  };
  return (round(even) >> 16) | (round(odd) & 0xffff0000u);
}

/// sum_i + a_i.even * b_i.even + a_i.odd * b_i.odd for pairs of bfloat16: twice the products of a
/// float32 instruction, where the machine has it.
inline F32x16 dot_pairs(F32x16 sum, U32x16 a, U32x16 b) {
#if defined(__AVX512BF16__)
  return (F32x16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
  sum += (F32x16)(a << 16) * (F32x16)(b << 16);
  return sum + (F32x16)(a & 0xffff0000u) * (F32x16)(b & 0xffff0000u);
#endif
}

/// sum_i + the products of four unsigned bytes in each lane with four signed ones, the same for all
/// lanes: four multiplications in one of the machine's instructions, where it has it.
inline I32x16 dot_bytes(I32x16 sum, U32x16 bytes, std::uint32_t factors) {
#if defined(__AVX512VNNI__)
  return (I32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes,
                                     _mm512_set1_epi32(static_cast<std::int32_t>(factors)));
#else
  for (std::uint32_t i = 0; i < 4; ++i) {
    const auto factor = static_cast<std::int8_t>(factors >> (8 * i));
    sum += (I32x16)((bytes >> (8 * i)) & 0xffu) * std::int32_t{factor};
  }
  return sum;
#endif
}

/// The low bytes of sixteen lanes, in order.
inline void store_low_bytes(std::uint32_t* to, I32x16 v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v));
#else
  using U8x16 = std::uint8_t __attribute__((vector_size(16)));
  store_as(to, __builtin_convertvector((U32x16)v & 0xffu, U8x16));
#endif
}

/// Holds v in a register: GCC would rather load it again for each use, and loads run out before
/// multiplications do.
inline void hold(F32x16& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#else
  static_cast<void>(v);
#endif
}

inline void store(float* to, F32x16 v) { std::memcpy(to, &v, sizeof v); }

/// Loads the first n < 16 elements; the rest are zero.
template <class T>
inline F32x16 load_first(const T* from, std::int64_t n) {
  T padded[16] = {};
  std::memcpy(padded, from, static_cast<std::size_t>(n) * sizeof(T));
  return load(padded);
}

inline void store_first(float* to, F32x16 v, std::int64_t n) {
  std::memcpy(to, &v, static_cast<std::size_t>(n) * sizeof(float));
}

#if defined(__AVX512F__)  // one instruction; GCC 12 compares and blends
inline I32x16 max(I32x16 a, I32x16 b) {
  return (I32x16)_mm512_maskz_max_epi32(0xffff, (__m512i)a, (__m512i)b);
}
inline I32x16 min(I32x16 a, I32x16 b) {
  return (I32x16)_mm512_maskz_min_epi32(0xffff, (__m512i)a, (__m512i)b);
}
inline F32x16 max(F32x16 a, F32x16 b) {
  return (F32x16)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
}
inline F32x16 min(F32x16 a, F32x16 b) {
  return (F32x16)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
}
#else
inline I32x16 max(I32x16 a, I32x16 b) { return a > b ? a : b; }
inline I32x16 min(I32x16 a, I32x16 b) { return a < b ? a : b; }
inline F32x16 max(F32x16 a, F32x16 b) { return a > b ? a : b; }
inline F32x16 min(F32x16 a, F32x16 b) { return a < b ? a : b; }
#endif

namespace detail {
using F32x8 = float __attribute__((vector_size(32)));
using F32x4 = float __attribute__((vector_size(16)));
}  // namespace detail

inline float sum(F32x16 v) {
  const detail::F32x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                          __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const detail::F32x4 b =
      __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}

/// The sums of sixteen vectors, in their order: a tree that transposes as it adds, a third of the
/// instructions of sixteen single sums.
inline F32x16 sums(const F32x16 (&v)[16]) {
  F32x16 a[8];
  F32x16 b[4];
  F32x16 c[2];
  for (int i = 0; i < 8; ++i) {
    a[i] = __builtin_shufflevector(v[2 * i], v[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19,
                                   20, 21, 22, 23) +
           __builtin_shufflevector(v[2 * i], v[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26,
                                   27, 28, 29, 30, 31);
  }
  for (int i = 0; i < 4; ++i) {
    b[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19,
                                   24, 25, 26, 27) +
           __builtin_shufflevector(a[2 * i], a[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22,
                                   23, 28, 29, 30, 31);
  }
  for (int i = 0; i < 2; ++i) {
    c[i] = __builtin_shufflevector(b[2 * i], b[2 * i + 1], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21,
                                   24, 25, 28, 29) +
           __builtin_shufflevector(b[2 * i], b[2 * i + 1], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22,
                                   23, 26, 27, 30, 31);
  }
  return __builtin_shufflevector(c[0], c[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                 30) +
         __builtin_shufflevector(c[0], c[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29,
                                 31);
}

inline float max(F32x16 v) {
  const detail::F32x8 a0 = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  const detail::F32x8 a1 = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const detail::F32x8 a = a0 > a1 ? a0 : a1;
  const detail::F32x4 b0 = __builtin_shufflevector(a, a, 0, 1, 2, 3);
  const detail::F32x4 b1 = __builtin_shufflevector(a, a, 4, 5, 6, 7);
  const detail::F32x4 b = b0 > b1 ? b0 : b1;
  const float x = b[0] > b[2] ? b[0] : b[2];
  const float y = b[1] > b[3] ? b[1] : b[3];
  return x > y ? x : y;
}

namespace detail {
/// Folds the lanes of v by an operation that may take them in any order; all lanes hold the result.
template <class Vector, class Op>
inline Vector fold(Vector v, Op op) {
  v = op(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = op(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = op(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  return op(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
}
}  // namespace detail

inline std::int32_t max(I32x16 v) {
  return detail::fold(v, [](I32x16 a, I32x16 b) { return max(a, b); })[0];
}
inline std::int32_t min(I32x16 v) {
  return detail::fold(v, [](I32x16 a, I32x16 b) { return min(a, b); })[0];
}

/// The nearest integers, ties to even, for |x| < 2^22.
inline I32x16 nearest(F32x16 x) {
#if defined(__AVX512F__)
  return (I32x16)_mm512_maskz_cvtps_epi32(0xffff, (__m512)x);
#else
  // Adding 1.5 * 2^23 rounds to the nearest integer.
  const F32x16 magic = broadcast(12582912.0f);
  return (I32x16)(x + magic) - (I32x16)magic;
#endif
}

/// Whether a comparison holds in every lane.
inline bool all(I32x16 comparison) {
#if defined(__AVX512F__)
  return _mm512_cmplt_epi32_mask((__m512i)comparison, _mm512_setzero_si512()) == 0xffff;
#else
  return min(-comparison) == 1;
#endif
}

/// Integers from -16256 to 16256 as high * 128 + low, both bytes with a sign, in order.
inline void split_bytes(I32x16 x, std::uint32_t* high, std::uint32_t* low) {
  const I32x16 h = (x + 64) >> 7;
  store_low_bytes(high, h);
  store_low_bytes(low, x - (h << 7));
}

/// The same of sixty-four.
inline void split_bytes(const I32x16 (&x)[4], std::uint32_t* high, std::uint32_t* low) {
#if defined(__AVX512BW__)
  // Packing takes 128 bits of each register in turn, so words of four bytes are put in order last.
  const __m512i a = _mm512_packs_epi32((__m512i)x[0], (__m512i)x[1]);
  const __m512i b = _mm512_packs_epi32((__m512i)x[2], (__m512i)x[3]);
  const auto high_of = [](__m512i v) {
    return _mm512_srai_epi16(_mm512_add_epi16(v, _mm512_set1_epi16(64)), 7);
  };
  const auto low_of = [](__m512i v, __m512i h) {
    return _mm512_sub_epi16(v, _mm512_slli_epi16(h, 7));
  };
  const auto store_bytes_of = [](std::uint32_t* to, __m512i p, __m512i q) {
    const auto words = (I32x16)_mm512_packs_epi16(p, q);
    store_as(to, __builtin_shufflevector(words, words, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7,
                                         11, 15));
  };
  const __m512i a_high = high_of(a);
  const __m512i b_high = high_of(b);
  store_bytes_of(high, a_high, b_high);
  store_bytes_of(low, low_of(a, a_high), low_of(b, b_high));
#else
  for (int i = 0; i < 4; ++i) split_bytes(x[i], high + 4 * i, low + 4 * i);
#endif
}

/// exp(x) to about 2 ulp; exactly 0 for x = -inf and below the smallest normal result. Range
/// reduction by ln 2 in two parts, then the degree-6 polynomial of Cephes' expf (Moshier 1992).
inline F32x16 exp(F32x16 x) {
  const F32x16 underflow = broadcast(-87.33f);
  const F32x16 clamped = min(max(x, underflow), broadcast(88.72f));
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  const F32x16 magic = broadcast(12582912.0f);
  const F32x16 n = (clamped * 1.44269504088896341f + magic) - magic;
  const F32x16 r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  F32x16 p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
#if defined(__AVX512F__)
  return (F32x16)_mm512_maskz_scalef_ps(
      _mm512_cmp_ps_mask((__m512)x, (__m512)underflow, _CMP_NLT_UQ), (__m512)p, (__m512)n);
#else
  // n can be 128 at the top of the range, where 2^n alone overflows: scale by 2 * 2^(n - 1).
  const I32x16 exponent = (__builtin_convertvector(n, I32x16) + 126) << 23;
  const F32x16 scaled = p * (F32x16)exponent * 2.0f;
  return x < underflow ? F32x16{} : scaled;
#endif
}

namespace detail {
using F64x8 = double __attribute__((vector_size(64)));
using I32x8 = std::int32_t __attribute__((vector_size(32)));

/// x less the nearest multiple n of pi / 2, and n.
inline void reduce_angle(F32x8 x, F32x8& rest, I32x8& n) {
  const F64x8 wide = __builtin_convertvector(x, F64x8);
  // Adding and subtracting 1.5 * 2^52 rounds to the nearest integer.
  constexpr double kMagic = 6755399441055744.0;
  const F64x8 count = (wide * 0.63661977236758134 + kMagic) - kMagic;
  rest = __builtin_convertvector(wide - count * 1.5707963267948966, F32x8);
  n = __builtin_convertvector(count, I32x8);
}
}  // namespace detail

/// Sine and cosine of |x| < 2^31, each within 2e-7. The reduction to [-pi/4, pi/4] is in double
/// precision, for angles of RoPE at long contexts are large; then the polynomials of Cephes' sinf
/// and cosf (Moshier 1992).
inline void sin_cos(F32x16 x, F32x16& sin, F32x16& cos) {
  detail::F32x8 rest[2];
  detail::I32x8 count[2];
  detail::reduce_angle(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7), rest[0], count[0]);
  detail::reduce_angle(__builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15), rest[1],
                       count[1]);
  const F32x16 r = __builtin_shufflevector(rest[0], rest[1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                           12, 13, 14, 15);
  const I32x16 n = __builtin_shufflevector(count[0], count[1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                           12, 13, 14, 15);
  const F32x16 z = r * r;
  F32x16 s = broadcast(-1.9515295891e-4f);
  s = s * z + 8.3321608736e-3f;
  s = s * z - 1.6666654611e-1f;
  s = s * (z * r) + r;
  F32x16 c = broadcast(2.443315711809948e-5f);
  c = c * z - 1.388731625493765e-3f;
  c = c * z + 4.166664568298827e-2f;
  c = c * (z * z) - 0.5f * z + 1.0f;
  const I32x16 swapped = (n & 1) != 0;
  // A sign bit where the quarter of the circle is one of the lower half, and of the left half.
  const I32x16 below = (n & 2) << 30;
  const I32x16 left = ((n + 1) & 2) << 30;
  sin = (F32x16)((I32x16)(swapped ? c : s) ^ below);
  cos = (F32x16)((I32x16)(swapped ? s : c) ^ left);
}

}  // namespace pikv::kernels::cpu
