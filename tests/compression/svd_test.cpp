// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codec svd: which ranks its pages may have, and which of them a head gets.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "compression/compose.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv::compression {
namespace {

using testing_support::Random;

PageLayout open_of(std::int32_t dim) { return make_page_layout(32, dim, DType::kF32); }

/// Rows [n, D] whose channels fall off as decay^channel, in an order of their own.
RowMoments moments_of(Random& random, std::int32_t dim, double decay) {
  constexpr std::int64_t kRows = 200;
  std::vector<float> rows = random.normals(kRows * dim);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto channel = static_cast<double>(i * 7 % static_cast<std::size_t>(dim));
    rows[i] *= static_cast<float>(std::pow(decay, channel));
  }
  RowMoments moments(dim);
  moments.add(rows);
  return moments;
}

/// The share of the squares of the rows that the first r coordinates hold: the diagonal of in^T M
/// in.
double kept(const RowMoments& moments, const std::vector<float>& in, std::int32_t rank) {
  const auto dim = static_cast<std::size_t>(moments.dim);
  double sum = 0;
  double total = 0;
  for (std::size_t c = 0; c < dim; ++c) {
    total += moments.products[c * dim + c];
    if (c >= static_cast<std::size_t>(rank)) continue;
    for (std::size_t i = 0; i < dim; ++i) {
      for (std::size_t j = 0; j < dim; ++j) {
        sum += static_cast<double>(in[i * dim + c]) * moments.products[i * dim + j] *
               static_cast<double>(in[j * dim + c]);
      }
    }
  }
  return sum / total;
}

TEST(Svd, ARankIsStoredInWholeVectors) {
  const auto forms = make_codec("svd:rank=33")->forms(open_of(64));
  ASSERT_EQ(forms.size(), 4u);
  EXPECT_EQ(forms[0].keys.channels % 64, 0) << "pages are whole at first";
  EXPECT_EQ(forms[0].values.channels % 64, 0);
  EXPECT_EQ(forms[3].keys, ElementForm(DType::kBf16).with_channels(48));
  EXPECT_EQ(forms[3].values, ElementForm(DType::kBf16).with_channels(48));
  EXPECT_EQ(make_codec("svd:rank=60")->forms(open_of(64)).size(), 1u) << "that is all of them";
}

TEST(Svd, APairOfRanksIsAByteForHeadsOfAnySize) {
  for (const std::int32_t dim : {1, 16, 24, 64, 128, 250, 256, 272, 576}) {
    SCOPED_TRACE(dim);
    const auto codec = make_codec("svd:energy=0.9");
    const std::vector<PageLayout> layouts = codec->sealed_layouts(open_of(dim));
    EXPECT_EQ(layouts[0].key_channels(), dim);
    EXPECT_EQ(layouts[0].value_channels(), dim);
    EXPECT_LE(layouts.back().key_channels(), std::max(16, dim / 8));
  }
}

TEST(Svd, KeysAndValuesKeepTheEnergyInTheLeastRankThatDoes) {
  Random random(631);
  for (const std::int32_t dim : {16, 24, 64, 128, 272}) {
    for (const double energy : {0.5, 0.9, 0.999}) {
      SCOPED_TRACE(testing::Message() << "D = " << dim << ", " << energy);
      const auto codec = make_codec(concat("svd:energy=", energy));
      const RowMoments keys = moments_of(random, dim, 0.9);
      const RowMoments values = moments_of(random, dim, 0.99);
      const FittedHead fitted = codec->fit(open_of(dim), keys, values);
      const std::vector<PageLayout> layouts = codec->sealed_layouts(open_of(dim));
      const PageLayout& layout = layouts.at(fitted.form);
      EXPECT_GE(kept(keys, fitted.keys, layout.key_channels()), energy - 1e-6);
      EXPECT_GE(kept(values, fitted.values, layout.value_channels()), energy - 1e-6);
      for (const PageLayout& other : layouts) {
        if (other.key_channels() < layout.key_channels()) {
          EXPECT_LT(kept(keys, fitted.keys, other.key_channels()), energy + 1e-6);
        }
        if (other.value_channels() < layout.value_channels()) {
          EXPECT_LT(kept(values, fitted.values, other.value_channels()), energy + 1e-6);
        }
      }
    }
  }
}

TEST(Svd, ARankIsThatOfEveryHead) {
  Random random(632);
  const auto codec = make_codec("svd:rank=32");
  const FittedHead fitted =
      codec->fit(open_of(64), moments_of(random, 64, 0.5), moments_of(random, 64, 1.0));
  const PageLayout layout = codec->sealed_layouts(open_of(64)).at(fitted.form);
  EXPECT_EQ(layout.key_channels(), 32);
  EXPECT_EQ(layout.value_channels(), 32);
}

TEST(Svd, AChainStoresItsCoordinatesInTheOtherForm) {
  Random random(633);
  const auto codec = make_codec("svd:rank=32+int4:axis=token");
  ASSERT_TRUE(codec->fits_sequences());
  EXPECT_FALSE(codec->has_basis());
  const FittedHead fitted =
      codec->fit(open_of(64), moments_of(random, 64, 0.9), moments_of(random, 64, 0.9));
  const std::vector<RowForms> forms = codec->forms(open_of(64));
  const ElementForm form(Element::kInt4, ScaleAxis::kPerSlot, 64);
  EXPECT_EQ(forms.at(fitted.form).keys, form.with_channels(32));
  EXPECT_EQ(forms.at(fitted.form).values, form.with_channels(32));
}

TEST(Svd, KeysAndValuesMayHaveCodecsOfTheirOwn) {
  Random random(634);
  const RowMoments keys = moments_of(random, 64, 0.9);
  const RowMoments values = moments_of(random, 64, 0.9);
  const auto fit = [&](const char* spec) {
    const auto codec = make_codec(spec);
    EXPECT_TRUE(codec->fits_sequences());
    const FittedHead fitted = codec->fit(open_of(64), keys, values);
    return std::pair(fitted, codec->sealed_layouts(open_of(64)).at(fitted.form));
  };
  const auto [of_keys, keys_only] = fit("svd:rank=32/int8");
  EXPECT_EQ(keys_only.key_channels(), 32);
  EXPECT_EQ(keys_only.values.element, Element::kInt8);
  EXPECT_EQ(keys_only.value_channels(), 64);
  EXPECT_FALSE(of_keys.keys.empty());
  EXPECT_TRUE(of_keys.values.empty()) << "they stay as they are";
  const auto [of_both, both] = fit("svd:rank=48+int4:axis=token/svd:rank=16");
  EXPECT_EQ(both.key_channels(), 48);
  EXPECT_EQ(both.keys.element, Element::kInt4);
  EXPECT_EQ(both.value_channels(), 16);
  EXPECT_FALSE(of_both.values.empty());
}

TEST(Svd, OfKeysBeforeRopeNarrowPagesHoldThese) {
  Random random(635);
  const RowMoments keys = moments_of(random, 64, 0.9);
  const RowMoments values = moments_of(random, 64, 0.9);
  for (const char* spec : {"svd:rank=32,rope=before", "svd:rank=32,rope=before/none",
                           "svd:rank=32,rope=before+int8:axis=token", "svd:rank=32,rope=after",
                           "svd:rank=32", "none/svd:rank=32"}) {
    SCOPED_TRACE(spec);
    const auto codec = make_codec(spec);
    const bool before = std::string_view(spec).starts_with("svd:rank=32,rope=before");
    EXPECT_EQ(codec->fits_keys_before_rope(), before);
    const FittedHead fitted = codec->fit(open_of(64), keys, values);
    const std::vector<RowForms> forms = codec->forms(open_of(64));
    EXPECT_EQ(forms.at(fitted.form).keys.pre_rope, before);
    EXPECT_FALSE(forms.at(fitted.form).values.pre_rope);
    EXPECT_FALSE(forms[0].keys.pre_rope) << "whole pages need no basis";
  }
  const auto whole = make_codec("svd:energy=1,rope=before");
  EXPECT_EQ(whole->fit(open_of(64), keys, values).form, 0u);
  EXPECT_THROW((void)make_codec("svd:rank=16,rope=before")->sealed_layouts(open_of(33)),
               InvalidArgument)
      << "halves of a head are turned together";
}

TEST(Svd, WhatCannotBeIsRefused) {
  for (const char* bad :
       {"svd:rank=8,energy=0.5", "svd:energy=1.5", "svd:rank=0", "svd:rank=8,file=x",
        "svd:rank=32+pyramid", "svd:rank=32/pyramid", "pyramid/svd:rank=32", "svd:rank=32+hadamard",
        "hadamard+svd:rank=32", "int4+svd:rank=32", "svd:rope=both", "svd:rope=before+hadamard"}) {
    EXPECT_THROW((void)make_codec(bad), InvalidArgument) << bad;
  }
  EXPECT_THROW((void)make_codec("svd:rank=65")->forms(open_of(64)), InvalidArgument);
}

}  // namespace
}  // namespace pikv::compression
