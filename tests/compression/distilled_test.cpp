// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codec distilled and the files that it reads.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "compression/basis_file.hpp"
#include "compression/codec_table.hpp"
#include "compression/compose.hpp"
#include "core/io/safetensors.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/bad_file.hpp"
#include "tests/support/random_encoder.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::compression {
namespace {

using testing_support::expect_bad_file;
using testing_support::Random;

const CachedModel kModel{.num_layers = 2, .num_kv_heads = 3, .head_dim = 40, .fingerprint = "abc"};
constexpr std::int64_t kRank = 16;
constexpr std::int64_t kWidth = 5;

class DistilledCodec : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<const Codec> make(const std::string& before,
                                                  const std::string& after = "") const {
    return make_codec(before + ":file=" + path_ + after);
  }
  /// The same tensors and metadata, changed.
  template <class Change>
  void rewrite(const Change& change) const {
    std::vector<FloatTensor> tensors;
    std::vector<std::vector<float>> numbers;
    std::map<std::string, std::string, std::less<>> metadata;
    {
      file_.write(path_);
      const SafetensorsFile stored(path_);
      metadata = stored.metadata();
      numbers.reserve(stored.tensors().size());
      for (const auto& [name, tensor] : stored.tensors()) {
        tensors.push_back({name, tensor.shape, numbers.emplace_back(to_floats(tensor))});
      }
    }
    change(metadata, tensors);
    write_safetensors(path_, metadata, tensors);
  }
  void SetUp() override { file_.write(path_); }

  Random random_{711};
  BasisFile file_ = testing_support::random_encoder_file(random_, kModel, kRank, kWidth);
  testing_support::TempFolder folder_;
  std::string path_ = (folder_.path() / "basis").string();
  PageLayout open_ = make_page_layout(16, static_cast<std::int32_t>(kModel.head_dim), DType::kF32);
};

TEST_F(DistilledCodec, ItsFileComesBackAsItWasWritten) {
  const BasisFile read = BasisFile::read(path_);
  ASSERT_TRUE(read.encoder.has_value());
  EXPECT_EQ(read.encoder->rank, kRank);
  for (const auto nets : {&BasisFile::EncoderNets::keys, &BasisFile::EncoderNets::values}) {
    const Encoder::Nets& is = *read.encoder.*nets;
    const Encoder::Nets& was = *file_.encoder.*nets;
    ASSERT_EQ(is.size(), was.size());
    for (std::size_t i = 0; i < is.size(); ++i) {
      EXPECT_EQ(is[i].rank, was[i].rank);
      EXPECT_EQ(is[i].width, was[i].width);
      EXPECT_EQ(is[i].in, was[i].in);
      EXPECT_EQ(is[i].out, was[i].out);
    }
  }
  EXPECT_EQ(read.keys.in, file_.keys.in);
  EXPECT_EQ(read.values.mean, file_.values.mean);
}

TEST_F(DistilledCodec, AnEncoderThatDoesNotFitIsRefusedByName) {
  using Metadata = std::map<std::string, std::string, std::less<>>;
  using Tensors = std::vector<FloatTensor>;
  const auto expect = [&](auto change, std::string_view reason) {
    SCOPED_TRACE(reason);
    rewrite(change);
    expect_bad_file([&] { (void)BasisFile::read(path_); }, path_, reason);
    expect_bad_file([&] { (void)make("distilled"); }, path_, reason);
  };
  const auto named = [](Tensors& tensors, std::string_view name) {
    return std::ranges::find(tensors, name, &FloatTensor::name);
  };
  for (const char* rank :
       {"", "0", "-16", "8", "24", "40", "48", "16.0", "16 ", "1e99", "99999999999999999999"}) {
    expect([&](Metadata& m, Tensors&) { m["rank"] = rank; },
           concat("metadata 'rank' is '", rank, "', not a multiple of 16 below the head size, 40"));
  }
  expect([](Metadata& m, Tensors&) { m["rank"] = "1\n6"; }, "'rank' is '1?6'");
  expect([](Metadata& m, Tensors&) { m.erase("rank"); }, "no metadata 'rank'");
  expect([](Metadata& m, Tensors&) { m["rank"] = "32"; },
         "'keys.encoder.in' is F32 [2, 3, 24, 5], which does not fit 'keys.in' and a rank of 32");
  for (const char* name :
       {"keys.encoder.in", "keys.encoder.out", "values.encoder.in", "values.encoder.out"}) {
    expect([&](Metadata&, Tensors& t) { t.erase(named(t, name)); }, concat("'", name, "'"));
    expect(
        [&](Metadata&, Tensors& t) {
          auto& shape = named(t, name)->shape;
          std::swap(shape[0], shape[1]);
        },
        concat("tensor '", name, "' is F32 [3, 2, "));
    expect(
        [&](Metadata&, Tensors& t) {
          auto& shape = named(t, name)->shape;
          std::swap(shape[2], shape[3]);
        },
        concat("tensor '", name, "' is F32 [2, 3, "));
    expect([&](Metadata&,
               Tensors& t) { named(t, name)->shape.insert(named(t, name)->shape.begin(), 1); },
           concat("tensor '", name, "' is "));
  }
  const std::vector<float> nothing;
  expect(
      [&](Metadata&, Tensors& t) {
        *named(t, "values.encoder.in") = {"values.encoder.in", {2, 3, 24, 0}, nothing};
      },
      "tensor 'values.encoder.in' is no [layers, KV heads, D - r, width]");
  file_.encoder->values[4].out[7] = std::numeric_limits<float>::infinity();
  expect([](Metadata&, Tensors&) {}, "'values.encoder.out' has numbers that are not finite");
}

TEST_F(DistilledCodec, FullPagesKeepTheRankOfTheFile) {
  for (const auto& [before, after, form] :
       std::vector<std::tuple<std::string, std::string, ElementForm>>{
           {"distilled", "", ElementForm(DType::kBf16)},
           {"distilled", ",dtype=f32", ElementForm(DType::kF32)},
           {"distilled", "+int8:axis=token",
            make_codec("int8:axis=token")->forms(open_)[0].keys}}) {
    const auto codec = make(before, after);
    EXPECT_EQ(codec->forms(open_)[0].keys, form.with_channels(16));
    EXPECT_EQ(codec->sealed_layouts(open_)[0].key_channels(), 16);
    EXPECT_EQ(codec->sealed_layouts(open_)[0].value_channels(), 16);
    EXPECT_NE(codec->make_basis(kModel), nullptr);
    const auto encoder = codec->make_encoder(kModel);
    ASSERT_NE(encoder, nullptr);
    EXPECT_EQ(encoder->keys().at(4).in, file_.encoder->keys[4].in);
    EXPECT_EQ(encoder->values().at(4).in, file_.encoder->values[4].in);
  }
}

TEST_F(DistilledCodec, OneOperandMayHaveAnEncoder) {
  const auto of_keys = make("distilled", "/int8")->make_encoder(kModel);
  ASSERT_NE(of_keys, nullptr);
  EXPECT_EQ(of_keys->keys().size(), 6u);
  EXPECT_TRUE(of_keys->values().empty());
  const auto of_values = make("hadamard+int8/distilled")->make_encoder(kModel);
  ASSERT_NE(of_values, nullptr);
  EXPECT_TRUE(of_values->keys().empty());
  EXPECT_EQ(of_values->values().at(5).out, file_.encoder->values[5].out);
  EXPECT_EQ(make_codec("int8/hadamard+int8")->make_encoder(kModel), nullptr);
}

TEST_F(DistilledCodec, ATableMayNameItForSomeHeads) {
  CodecTable table{.model = kModel, .keys = {}, .values = {}};
  table.keys.assign(6, "int8");
  table.values.assign(6, "int8");
  table.keys[1] = "distilled:file=" + path_;
  table.values[5] = table.keys[1] + "+int8";
  const std::string path = (folder_.path() / "table").string();
  table.write(path);
  const auto encoder = make_codec("auto:file=" + path)->make_encoder(kModel);
  ASSERT_NE(encoder, nullptr);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(encoder->keys().at(i).empty(), i != 1);
    EXPECT_EQ(encoder->values().at(i).empty(), i != 5);
  }
  EXPECT_EQ(encoder->keys()[1].in, file_.encoder->keys[1].in);
  EXPECT_EQ(encoder->values()[5].in, file_.encoder->values[5].in);
}

TEST_F(DistilledCodec, ItBelongsToOneModel) {
  const auto codec = make("distilled");
  CachedModel other = kModel;
  other.fingerprint = "abd";
  EXPECT_THROW((void)codec->make_basis(other), BadFile);
  EXPECT_THROW((void)codec->make_encoder(other), BadFile);
}

TEST_F(DistilledCodec, OptionsAndFilesThatDoNotFitAreRefused) {
  EXPECT_THROW((void)make("distilled", ",rank=16"), InvalidArgument);
  EXPECT_THROW((void)make("distilled", ",dtype=int4"), InvalidArgument);
  EXPECT_THROW((void)make_codec("distilled"), InvalidArgument);
  EXPECT_THROW((void)make_codec("distilled:file=/nowhere"), BadFile);
  EXPECT_THROW((void)make_codec("hadamard+distilled:file=" + path_), InvalidArgument);
  file_.encoder.reset();
  file_.write(path_);
  EXPECT_THROW((void)make("distilled"), InvalidArgument);
}

TEST_F(DistilledCodec, ToOtherCodecsItsFileIsABasis) {
  const auto codec = make("lora_plus_plus", ",rank=32");
  EXPECT_EQ(codec->sealed_layouts(open_)[0].key_channels(), 32);
  EXPECT_NE(codec->make_basis(kModel), nullptr);
  EXPECT_EQ(codec->make_encoder(kModel), nullptr);
}

}  // namespace
}  // namespace pikv::compression
