// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The scalar conversions against the definition of the formats: all values of both 16-bit types,
// and all places where rounding changes its mind.
#include "kernels/common/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pikv {
namespace {

/// A binary format with an exponent of `exponent_bits` and a fraction of `fraction_bits`.
struct Format {
  int exponent_bits;
  int fraction_bits;

  [[nodiscard]] std::uint32_t infinity() const {
    return ((1u << exponent_bits) - 1u) << fraction_bits;
  }
  /// IEEE 754-2019, 3.4, for finite bits without a sign.
  [[nodiscard]] double value(std::uint32_t bits) const {
    const auto exponent = static_cast<int>(bits >> fraction_bits);
    const auto fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1u));
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const double one = exponent == 0 ? 0.0 : std::ldexp(1.0, fraction_bits);
    return std::ldexp(one + fraction, std::max(exponent, 1) - bias - fraction_bits);
  }
};

template <class T>
constexpr Format format_of();
template <>
constexpr Format format_of<Half>() {
  return {.exponent_bits = 5, .fraction_bits = 10};
}
template <>
constexpr Format format_of<BFloat16>() {
  return {.exponent_bits = 8, .fraction_bits = 7};
}

template <class T>
class SixteenBits : public testing::Test {};
using Types = testing::Types<Half, BFloat16>;
TYPED_TEST_SUITE(SixteenBits, Types);

TYPED_TEST(SixteenBits, EveryValueWidensToWhatTheFormatSays) {
  const Format format = format_of<TypeParam>();
  for (std::uint32_t bits = 0; bits < format.infinity(); ++bits) {
    const auto expected = static_cast<float>(format.value(bits));
    ASSERT_EQ(to_float(TypeParam{static_cast<std::uint16_t>(bits)}), expected) << bits;
    const float negative = to_float(TypeParam{static_cast<std::uint16_t>(bits | 0x8000u)});
    ASSERT_EQ(negative, -expected) << bits;
    ASSERT_TRUE(std::signbit(negative)) << "zero keeps its sign, too";
  }
}

TYPED_TEST(SixteenBits, EveryValueRoundTrips) {
  for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
    const TypeParam narrow{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(narrow))) {
      ASSERT_TRUE(std::isnan(to_float(from_float<TypeParam>(to_float(narrow))))) << bits;
    } else {
      ASSERT_EQ(from_float<TypeParam>(to_float(narrow)).bits, bits);
    }
  }
}

// Between two neighbours all floats go to the nearer one, and the middle to the even one. The last
// finite value and the infinity after it are neighbours as if the exponent went on.
TYPED_TEST(SixteenBits, RoundsToNearestTiesToEvenAtEveryBoundary) {
  const Format format = format_of<TypeParam>();
  for (std::uint32_t bits = 0; bits < format.infinity(); ++bits) {
    const double gap = bits == 0 ? format.value(1) : (format.value(bits + 1) - format.value(bits));
    const double wide_middle =
        bits + 1 == format.infinity()
            ? format.value(bits) + (format.value(bits) - format.value(bits - 1)) / 2
            : format.value(bits) + gap / 2;
    const auto middle = static_cast<float>(wide_middle);
    ASSERT_EQ(static_cast<double>(middle), wide_middle) << "the middle is a float";
    const float below = std::nextafter(middle, 0.0f);
    const float above = std::nextafter(middle, std::numeric_limits<float>::infinity());
    const std::uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    for (const std::uint32_t sign : {0u, 0x8000u}) {
      const float s = sign == 0u ? 1.0f : -1.0f;
      ASSERT_EQ(from_float<TypeParam>(s * below).bits, sign | bits);
      ASSERT_EQ(from_float<TypeParam>(s * middle).bits, sign | even);
      ASSERT_EQ(from_float<TypeParam>(s * above).bits, sign | (bits + 1));
    }
  }
}

TYPED_TEST(SixteenBits, BeyondTheRangeIsInfinity) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_float(from_float<TypeParam>(kInfinity)), kInfinity);
  EXPECT_EQ(to_float(from_float<TypeParam>(-kInfinity)), -kInfinity);
  EXPECT_EQ(to_float(from_float<TypeParam>(std::numeric_limits<float>::max())), kInfinity);
  EXPECT_EQ(to_float(from_float<TypeParam>(std::numeric_limits<float>::lowest())), -kInfinity);
}

TYPED_TEST(SixteenBits, NanStaysNanEvenWithAPayloadThatWouldBeCutOff) {
  for (const std::uint32_t bits : {0x7fc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu}) {
    EXPECT_TRUE(std::isnan(to_float(from_float<TypeParam>(std::bit_cast<float>(bits))))) << bits;
  }
}

TEST(DType, WorkedByHand) {
  EXPECT_EQ(from_float<Half>(1.0f).bits, 0x3c00u);
  EXPECT_EQ(from_float<Half>(65504.0f).bits, 0x7bffu);
  EXPECT_EQ(from_float<Half>(65520.0f).bits, 0x7c00u) << "the tie with infinity goes up";
  EXPECT_EQ(from_float<Half>(0x1.0p-24f).bits, 0x0001u) << "the smallest subnormal";
  EXPECT_EQ(from_float<Half>(0x1.0p-25f).bits, 0x0000u) << "half of it ties to even";
  EXPECT_EQ(from_float<BFloat16>(1.0f).bits, 0x3f80u);
  EXPECT_EQ(from_float<BFloat16>(1.00390625f).bits, 0x3f80u) << "1 + 2^-8 ties to even";
  EXPECT_EQ(from_float<BFloat16>(1.01171875f).bits, 0x3f82u) << "1 + 3 * 2^-8 ties to even";
}

TEST(DType, NamesAndSizes) {
  EXPECT_EQ(name(DType::kF32), "f32");
  EXPECT_EQ(name(DType::kBf16), "bf16");
  EXPECT_EQ(name(DType::kF16), "f16");
  EXPECT_EQ(size_bytes(DType::kF32), 4u);
  EXPECT_EQ(size_bytes(DType::kBf16), 2u);
  EXPECT_EQ(size_bytes(DType::kF16), 2u);
}

}  // namespace
}  // namespace pikv
