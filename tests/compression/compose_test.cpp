// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/compose.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"

namespace pikv::compression {
namespace {

const PageLayout kOpen = make_page_layout(32, 64, DType::kF32);
const CachedModel kModel{.num_layers = 1, .num_kv_heads = 2, .head_dim = 64};

TEST(ComposedCodec, KeysAndValuesFollowTheirOwn) {
  const auto codec = make_codec("int8/int2:channels=32");
  EXPECT_EQ(codec->forms(kOpen)[0].keys, ElementForm(Element::kInt8, ScaleAxis::kPerChannel, 32));
  EXPECT_EQ(codec->forms(kOpen)[0].values, ElementForm(Element::kInt2, ScaleAxis::kPerSlot, 32));
  EXPECT_FALSE(codec->has_basis());
  EXPECT_EQ(codec->make_basis(kModel), nullptr);
}

TEST(ComposedCodec, AChainIsTheBasisOfOneAndTheFormOfTheOther) {
  const auto codec = make_codec("hadamard+int4:axis=token");
  EXPECT_EQ(codec->forms(kOpen)[0].keys, ElementForm(Element::kInt4, ScaleAxis::kPerSlot, 64));
  EXPECT_EQ(codec->forms(kOpen)[0].values, ElementForm(Element::kInt4, ScaleAxis::kPerSlot, 64));
  ASSERT_TRUE(codec->has_basis());
  const auto basis = codec->make_basis(kModel);
  EXPECT_FALSE(basis->keys().empty());
  EXPECT_FALSE(basis->values().empty());
}

TEST(ComposedCodec, EitherOperandMayHaveABasis) {
  const auto codec = make_codec("hadamard+int8/int4");
  const auto basis = codec->make_basis(kModel);
  ASSERT_NE(basis, nullptr);
  EXPECT_FALSE(basis->keys().empty());
  EXPECT_TRUE(basis->values().empty());
  EXPECT_EQ(basis->of_values(LayerId{0}).maps.extent(0), 0);
}

TEST(ComposedCodec, ChainsWithoutSenseAreRefusedWithTheReason) {
  const auto expect = [](const char* spec, std::string_view reason) {
    try {
      (void)make_codec(spec);
      FAIL() << spec << " was made";
    } catch (const InvalidArgument& refused) {
      EXPECT_NE(std::string_view(refused.what()).find(reason), std::string_view::npos)
          << refused.what();
    }
  };
  expect("int4+hadamard", "coordinates come first");
  expect("int4+int8", "coordinates come first");
  expect("hadamard+hadamard", "both steps change coordinates");
  expect("hadamard+int4+int8", "two steps");
  expect("int4:axis=token/int4:axis=token/int4", "one codec for keys and one for values");
  expect("hadamard+int5", "unknown");
  expect("int4/", "int4/");
}

}  // namespace
}  // namespace pikv::compression
