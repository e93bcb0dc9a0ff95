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
  expect("none/svd:rank=32,rope=before", "rope=before is about keys");
}

TEST(ComposedCodec, TiersOfKeysAndOfValuesMeetInSegments) {
  const auto codec = make_codec("hadamard+pyramid:int8=0.25,int4=0.75/pyramid:int4=0.5,int2=0.5");
  const std::vector<double> tiers = codec->tiers();
  ASSERT_EQ(tiers.size(), 3u);
  EXPECT_NEAR(tiers[0], 0.25, 1e-9);
  EXPECT_NEAR(tiers[1], 0.25, 1e-9);
  EXPECT_NEAR(tiers[2], 0.5, 1e-9);
  const std::vector<RowForms> forms = codec->forms(kOpen);
  ASSERT_EQ(forms.size(), 3u);
  EXPECT_EQ(forms[0].keys.element, Element::kInt8);
  EXPECT_EQ(forms[0].values.element, Element::kInt4);
  EXPECT_EQ(forms[1].keys.element, Element::kInt4);
  EXPECT_EQ(forms[1].values.element, Element::kInt4);
  EXPECT_EQ(forms[2].keys.element, Element::kInt4);
  EXPECT_EQ(forms[2].values.element, Element::kInt2);
  EXPECT_TRUE(codec->has_basis());
  EXPECT_EQ(codec->forms_of_pages(LayerId{0}, HeadId{0}, 4),
            (std::vector<std::uint8_t>{0, 1, 2, 2}));

  const auto values_only = make_codec("int8/pyramid:int4=0.5,int2=0.5");
  EXPECT_EQ(values_only->tiers(), (std::vector<double>{0.5, 0.5}));
  EXPECT_EQ(values_only->forms(kOpen)[1].keys.element, Element::kInt8);
  EXPECT_TRUE(make_codec("int8/int4")->tiers().empty());
}

}  // namespace
}  // namespace pikv::compression
