// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every codec promises (core/policy/codec.hpp), over the whole table with some options.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compression/basis_file.hpp"
#include "compression/codec_table.hpp"
#include "compression/compose.hpp"
#include "compression/tables.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/kv_page.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/kernels/packed_reference.hpp"
#include "tests/support/label.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_basis.hpp"
#include "tests/support/random_encoder.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

using testing_support::Random;

/// Open pages end to end: random elements, ascending positions.
class OpenPages {
 public:
  OpenPages(const PageLayout& layout, std::size_t count)
      : layout_(layout), memory_(Device::kCpu, count * layout.page_bytes()) {
    std::ranges::fill(memory_.span(), std::byte{0xff});  // all NaN
    for (std::size_t p = 0; p < count; ++p)
      pages.push_back(memory_.data() + p * layout.page_bytes());
  }

  void fill(Random& random) {
    for (std::size_t p = 0; p < pages.size(); ++p) {
      for (float& x : elements(p)) x = random.normal();
      for (std::int32_t slot = 0; slot < layout_.num_slots; ++slot) {
        positions(p)[static_cast<std::size_t>(slot)] =
            static_cast<std::int32_t>(1000 * p) + 3 * slot;
      }
    }
  }
  [[nodiscard]] std::span<float> elements(std::size_t page) {
    return {reinterpret_cast<float*>(pages[page]), layout_.position_offset() / sizeof(float)};
  }
  [[nodiscard]] std::span<std::int32_t> positions(std::size_t page) {
    return {reinterpret_cast<std::int32_t*>(pages[page] + layout_.position_offset()),
            static_cast<std::size_t>(layout_.num_slots)};
  }

  std::vector<std::byte*> pages;

 private:
  PageLayout layout_;
  DeviceBuffer<std::byte> memory_;
};

void convert(Exec& exec, const PageLayout& from_layout, const PageLayout& to_layout,
             const std::vector<std::byte*>& from, const std::vector<std::byte*>& to) {
  const std::vector<const std::byte*> sources(from.begin(), from.end());
  const auto count = static_cast<std::int64_t>(from.size());
  // Keys before RoPE are those after it where nothing turns, in coordinates that are the channels.
  const auto dim = static_cast<std::size_t>(from_layout.head_dim);
  std::vector<float> identity(dim * dim);
  for (std::size_t d = 0; d < dim; ++d) identity[d * dim + d] = 1.0f;
  const std::vector<const float*> key_bases(from.size(), identity.data());
  const std::vector<float> frequencies(dim / 2);
  kernels::convert_pages(
      exec, {.from_layout = from_layout,
             .to_layout = to_layout,
             .from = {sources.data(), {count}},
             .to = {to.data(), {count}},
             .key_bases = {key_bases.data(), {count}},
             .inverse_frequencies = {frequencies.data(), {static_cast<std::int64_t>(dim / 2)}}});
}

/// How far from normal numbers each element may come back.
double tolerance(const ElementForm& form) {
  switch (form.element) {
    case Element::kF32:
      return 0;
    case Element::kF16:
      return 5 * 0x1.0p-11;
    case Element::kBf16:
      return 5 * 0x1.0p-8;
    case Element::kE4m3:
      return 5 * 0x1.0p-4;
    case Element::kE5m2:
      return 5 * 0x1.0p-3;
    default:
      return 5.0 / ((1 << form.bits()) - 1);  // half a step of a group within 10
  }
}

class CodecContract : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static bool is_distilled() { return GetParam().starts_with("distilled"); }

  template <class Check>
  static void for_each_layout(const Check& check) {
    for (const std::int32_t num_slots : {16, 64}) {
      for (const std::int32_t head_dim : {1, 16, 24, 128}) {
        if (is_distilled() && head_dim <= kLanes) continue;  // there is no rank below
        SCOPED_TRACE(testing::Message() << "P = " << num_slots << ", D = " << head_dim);
        check(make_page_layout(num_slots, head_dim, DType::kF32));
      }
    }
  }

  [[nodiscard]] static CachedModel model_of(const PageLayout& open) {
    return {.num_layers = 1, .num_kv_heads = 2, .head_dim = open.head_dim, .fingerprint = "abc"};
  }

  /// For heads of this size: those that need a fitted basis get one of a file, of which they keep
  /// about half.
  [[nodiscard]] std::unique_ptr<const Codec> codec_for(const PageLayout& open) const {
    if (GetParam() == "auto") return table_of(open);
    if (is_distilled()) return distilled_for(open);
    if (!GetParam().starts_with("lora") && !GetParam().starts_with("pruning")) {
      return compression::make_codec(GetParam());
    }
    Random random(190);
    compression::BasisFile file;
    file.model = model_of(open);
    file.method = "channels";
    file.keys = testing_support::random_operand(random, file.model);
    file.values = testing_support::random_operand(random, file.model);
    if (!GetParam().starts_with("lora_plus_plus")) file.keys.mean = file.values.mean = {};
    file.key_energy.assign(static_cast<std::size_t>(2 * open.head_dim), 1.0f);
    file.value_energy = file.key_energy;
    const auto path = (folder_.path() / "basis").string();
    file.write(path);
    std::string spec = GetParam();
    const std::string options = concat(":file=", path, ",rank=", (open.head_dim + 1) / 2);
    return compression::make_codec(spec.insert(std::min(spec.find('+'), spec.size()), options));
  }

  [[nodiscard]] std::unique_ptr<const Codec> distilled_for(const PageLayout& open) const {
    Random random(194);
    const std::int64_t rank = open.head_dim / 2 / kLanes * kLanes;
    const auto path = (folder_.path() / "basis").string();
    testing_support::random_encoder_file(random, model_of(open), std::max<std::int64_t>(rank, 16),
                                         7)
        .write(path);
    std::string spec = GetParam();
    return compression::make_codec(
        spec.insert(std::min(spec.find_first_of("+/"), spec.size()), concat(":file=", path)));
  }

  /// Two heads of two codecs each.
  [[nodiscard]] std::unique_ptr<const Codec> table_of(const PageLayout& open) const {
    const auto path = folder_.path() / "table";
    const compression::CodecTable table{.model = model_of(open),
                                        .keys = {"int8:axis=token", "hadamard+int4:axis=token"},
                                        .values = {"none:dtype=bf16", "int2"}};
    table.write(path);
    return compression::make_codec(concat("auto:file=", path.string()));
  }

  testing_support::TempFolder folder_;
};

TEST_P(CodecContract, ASealedPageHasTheSlotsAndChannelsOfTheOpenOne) {
  for_each_layout([&](const PageLayout& open) {
    const auto codec = codec_for(open);
    const std::vector<RowForms> forms = codec->forms(open);
    const std::vector<PageLayout> layouts = codec->sealed_layouts(open);
    ASSERT_EQ(layouts.size(), forms.size());
    for (std::size_t i = 0; i < forms.size(); ++i) {
      const PageLayout& sealed = layouts[i];
      EXPECT_EQ(sealed.num_slots, open.num_slots);
      EXPECT_EQ(sealed.head_dim, open.head_dim);
      EXPECT_EQ(sealed.keys, forms[i].keys);
      EXPECT_EQ(sealed.values, forms[i].values);
      EXPECT_LE(sealed.page_bytes(), open.page_bytes()) << "sealing saves memory or costs none";
      EXPECT_EQ(sealed.page_bytes() % 64, 0u);
    }
    for (const std::uint32_t kv_head : {0u, 1u}) {
      EXPECT_LT(codec->form_of(LayerId{0}, HeadId{kv_head}), forms.size());
    }
    const std::vector<double> tiers = codec->tiers();
    if (tiers.empty()) return;
    EXPECT_EQ(tiers.size(), forms.size());
    EXPECT_NEAR(std::accumulate(tiers.begin(), tiers.end(), 0.0), 1.0, 1e-9);
  });
}

TEST_P(CodecContract, PagesComeBackWithinTheBoundWithTheirPositions) {
  Random random(191);
  Exec exec = Exec::cpu(2);
  for_each_layout([&](const PageLayout& open) {
    for (const PageLayout& sealed_layout : codec_for(open)->sealed_layouts(open))
      for (const std::size_t count : {0u, 1u, 5u}) {
        OpenPages before(open, count);
        before.fill(random);
        DeviceBuffer<std::byte> memory(Device::kCpu, count * sealed_layout.page_bytes());
        std::ranges::fill(memory.span(), std::byte{0xff});
        std::vector<std::byte*> sealed;
        for (std::size_t p = 0; p < count; ++p) {
          sealed.push_back(memory.data() + p * sealed_layout.page_bytes());
        }
        convert(exec, open, sealed_layout, before.pages, sealed);
        OpenPages after(open, count);
        convert(exec, sealed_layout, open, sealed, after.pages);
        for (std::size_t p = 0; p < count; ++p) {
          const reference::PageReader was(open, before.pages[p]);
          const reference::PageReader is(open, after.pages[p]);
          for (std::int32_t slot = 0; slot < open.num_slots; ++slot) {
            for (std::int32_t d = 0; d < open.head_dim; ++d) {
              const auto expect = [&](float read, float written, const ElementForm& form,
                                      std::int32_t channels) {
                ASSERT_NEAR(read, d < channels ? written : 0.0f, tolerance(form));
              };
              expect(is.key(slot, d).value, was.key(slot, d).value, sealed_layout.keys,
                     sealed_layout.key_channels());
              expect(is.value(slot, d).value, was.value(slot, d).value, sealed_layout.values,
                     sealed_layout.value_channels());
            }
          }
          ASSERT_TRUE(std::ranges::equal(after.positions(p), before.positions(p)));
        }
      }
  });
}

TEST_P(CodecContract, ABasisIsThereIfItIsSaidToBe) {
  for_each_layout([&](const PageLayout& open) {
    const auto codec = codec_for(open);
    const auto basis = codec->make_basis(model_of(open));
    EXPECT_EQ(basis != nullptr, codec->has_basis());
  });
}

TEST_P(CodecContract, AnEncoderHasNetsOfTheRanksThatPagesKeep) {
  for_each_layout([&](const PageLayout& open) {
    const auto codec = codec_for(open);
    const auto encoder = codec->make_encoder(model_of(open));
    EXPECT_EQ(encoder != nullptr, is_distilled());
    if (encoder == nullptr) return;
    EXPECT_TRUE(codec->has_basis());
    for (const std::uint32_t kv_head : {0u, 1u}) {
      for (const PageLayout& layout : codec->sealed_layouts(open)) {
        EXPECT_EQ(encoder->keys().at(kv_head).rank, layout.key_channels());
        if (encoder->values().empty()) continue;
        EXPECT_EQ(encoder->values().at(kv_head).rank, layout.value_channels());
      }
    }
  });
}

TEST_P(CodecContract, WhatIsFittedIsOrthonormalAndHasAForm) {
  Random random(192);
  for_each_layout([&](const PageLayout& open) {
    const auto codec = codec_for(open);
    RowMoments keys(open.head_dim);
    RowMoments values(open.head_dim);
    keys.add(random.normals(100 * open.head_dim));
    values.add(random.normals(3 * open.head_dim));  // fewer than it may have coordinates
    const FittedHead fitted = codec->fit(open, keys, values);
    EXPECT_EQ(!fitted.keys.empty() || !fitted.values.empty(), codec->fits_sequences());
    if (codec->fits_keys_before_rope()) {
      EXPECT_FALSE(fitted.keys.empty());
    }
    for (const RowForms& form : codec->forms(open)) {
      EXPECT_LE(form.keys.pre_rope, codec->fits_keys_before_rope());
      EXPECT_FALSE(form.values.pre_rope);
    }
    EXPECT_FALSE(codec->forms(open)[0].keys.pre_rope) << "there is no basis before the prompt is";
    EXPECT_LT(fitted.form, codec->forms(open).size());
    if (!codec->fits_sequences()) return;
    EXPECT_TRUE(codec->tiers().empty());
    EXPECT_EQ(codec->form_of(LayerId{0}, HeadId{0}), 0u) << "that of heads that are not fitted";
    const PageLayout whole = codec->sealed_layouts(open)[0];
    EXPECT_EQ(whole.key_channels(), open.head_dim);
    EXPECT_EQ(whole.value_channels(), open.head_dim);
    const CachedModel model{.num_layers = 1, .num_kv_heads = 1, .head_dim = open.head_dim};
    // A basis without inverses is refused unless its transposes are those.
    EXPECT_NO_THROW(Basis(model, {.in = fitted.keys, .out = {}, .mean = {}},
                          {.in = fitted.values, .out = {}, .mean = {}}));
  });
}

/// Every codec by its defaults, and with some options.
std::vector<std::string> all_codecs() {
  std::vector<std::string> specs = {"none:dtype=bf16",
                                    "none:dtype=f16",
                                    "fp8:format=e5m2",
                                    "int8:axis=token",
                                    "int8:axis=channel",
                                    "int4:slots=16",
                                    "int4:channels=128",
                                    "int2:axis=token,channels=16",
                                    "hadamard+int4:axis=token",
                                    "lora+int8",
                                    "distilled+int8:axis=token",
                                    "distilled+pyramid",
                                    "distilled/int8",
                                    "svd+int8",
                                    "svd:energy=0.5,dtype=f32",
                                    "svd:energy=0.9/int8",
                                    "svd:energy=0.9,rope=before,dtype=f32",
                                    "svd:energy=0.9,rope=before+int8",
                                    "lora_plus_plus+int4:axis=token",
                                    "int8/hadamard+int4",
                                    "hadamard+pyramid",
                                    "pyramid:full=0.5,int4=0.5,channels=16"};
  for (const std::string& name : names_of(compression::codecs())) specs.push_back(name);
  return specs;
}

INSTANTIATE_TEST_SUITE_P(Codecs, CodecContract, testing::ValuesIn(all_codecs()),
                         testing_support::LabelOfParam{});

}  // namespace
}  // namespace pikv
