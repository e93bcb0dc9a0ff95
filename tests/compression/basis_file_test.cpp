// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/basis_file.hpp"

#include <gtest/gtest.h>

#include "compression/compose.hpp"
#include "core/io/safetensors.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/bad_file.hpp"
#include "tests/support/random_basis.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::compression {
namespace {

using testing_support::expect_bad_file;
using testing_support::Random;
using testing_support::TempFolder;

BasisFile some_file(std::int64_t head_dim = 32) {
  Random random(621);
  BasisFile file;
  file.model = {.num_layers = 2, .num_kv_heads = 3, .head_dim = head_dim, .fingerprint = "abc"};
  file.method = "random";
  file.keys = testing_support::random_operand(random, file.model);
  file.values = testing_support::random_operand(random, file.model);
  file.key_energy.assign(static_cast<std::size_t>(6 * head_dim), 1.0f);
  file.value_energy = file.key_energy;
  return file;
}

TEST(BasisFile, ComesBackAsItWasWritten) {
  const TempFolder folder;
  for (const bool centred : {true, false}) {
    BasisFile file = some_file();
    if (!centred) file.keys.mean.clear(), file.values.mean.clear();
    file.write(folder.path() / "basis");
    const BasisFile read = BasisFile::read(folder.path() / "basis");
    EXPECT_EQ(read.model.num_layers, 2);
    EXPECT_EQ(read.model.num_kv_heads, 3);
    EXPECT_EQ(read.model.head_dim, 32);
    EXPECT_EQ(read.model.fingerprint, "abc");
    EXPECT_EQ(read.method, "random");
    EXPECT_EQ(read.keys.in, file.keys.in);
    EXPECT_EQ(read.keys.mean, file.keys.mean);
    EXPECT_EQ(read.values.out, file.values.out);
    EXPECT_EQ(read.value_energy, file.value_energy);
  }
}

TEST(BasisFile, AnythingElseIsRefusedByName) {
  const TempFolder folder;
  const auto path = folder.path() / "basis";
  const auto expect = [&](auto change, std::string_view reason) {
    BasisFile file = some_file();
    change(file);
    file.write(path);
    expect_bad_file([&] { (void)BasisFile::read(path); }, path.string(), reason);
  };
  expect([](BasisFile& f) { f.keys.in[5] += 0.5f; }, "do not undo each other");
  expect([](BasisFile& f) { f.values.mean[0] = std::numeric_limits<float>::infinity(); },
         "'values.mean' has numbers that are not finite");

  const std::vector<float> numbers(2 * 3 * 4 * 4);
  const FloatTensor tensor{"keys.in", {2, 3, 4, 4}, numbers};
  write_safetensors(path, {}, std::span(&tensor, 1));
  expect_bad_file([&] { (void)BasisFile::read(path); }, path.string(), "no metadata 'format'");
  write_safetensors(path, {{"format", "other"}}, std::span(&tensor, 1));
  expect_bad_file([&] { (void)BasisFile::read(path); }, path.string(), "'other'");
  write_safetensors(path, {{"format", "pikv-basis-1"}, {"method", ""}, {"model", ""}},
                    std::span(&tensor, 1));
  expect_bad_file([&] { (void)BasisFile::read(path); }, path.string(), "'keys.out'");
  EXPECT_THROW(some_file().write(folder.path() / "no" / "folder"), BadFile);
}

class LowRankCodec : public testing::Test {
 protected:
  std::unique_ptr<const Codec> make(const std::string& options, const BasisFile& file) {
    file.write(folder_.path() / "b+int4/basis");  // marks of chains in a path
    return make_codec(options + ":file=" + (folder_.path() / "b+int4/basis").string() + rest_);
  }
  void SetUp() override { std::filesystem::create_directory(folder_.path() / "b+int4"); }

  TempFolder folder_;
  std::string rest_ = ",rank=16";
};

TEST_F(LowRankCodec, StoresWholeVectorsOfCoordinates) {
  const PageLayout open = make_page_layout(16, 32, DType::kF32);
  const BasisFile file = some_file();
  for (const auto& [rest, channels] :
       std::vector<std::pair<std::string, std::int32_t>>{{",rank=1", 16},
                                                         {",rank=16", 16},
                                                         {",rank=17", 32},
                                                         {",rank=32", 32},
                                                         {",energy=0.4", 16},
                                                         {",energy=0.51", 32},
                                                         {",rank=16+int4", 16}}) {
    SCOPED_TRACE(rest);
    rest_ = rest;
    const auto codec = make("lora_plus_plus", file);
    EXPECT_EQ(codec->sealed_layouts(open)[0].key_channels(), channels);
    EXPECT_EQ(codec->sealed_layouts(open)[0].value_channels(), channels);
  }
}

TEST_F(LowRankCodec, AskForTheRowsThatTheyWereFittedTo) {
  BasisFile whole = some_file();
  whole.keys.mean.clear();
  whole.values.mean.clear();
  EXPECT_NO_THROW((void)make("lora", whole));
  EXPECT_THROW((void)make("lora_plus_plus", whole), InvalidArgument);
  EXPECT_THROW((void)make("lora", some_file()), InvalidArgument);
  EXPECT_THROW((void)make("pruning", whole), InvalidArgument);
  whole.method = "channels weight=none";
  EXPECT_NO_THROW((void)make("pruning", whole));
}

TEST_F(LowRankCodec, BelongToOneModel) {
  const BasisFile file = some_file();
  const auto codec = make("lora_plus_plus", file);
  EXPECT_NE(codec->make_basis(file.model), nullptr);
  CachedModel other = file.model;
  other.fingerprint = "abd";
  EXPECT_THROW((void)codec->make_basis(other), BadFile);
  other = file.model;
  other.num_layers = 1;
  EXPECT_THROW((void)codec->make_basis(other), BadFile);
}

TEST_F(LowRankCodec, OptionsThatDoNotFitAreRefused) {
  for (const char* rest :
       {"", ",rank=0", ",rank=33", ",energy=1.5", ",rank=16,energy=0.5", ",rank=16,dtype=int4"}) {
    SCOPED_TRACE(rest);
    rest_ = rest;
    EXPECT_THROW((void)make("lora_plus_plus", some_file()), InvalidArgument);
  }
  EXPECT_THROW((void)make_codec("lora:rank=16"), InvalidArgument);
  EXPECT_THROW((void)make_codec("lora:file=/nowhere,rank=16"), BadFile);
}

}  // namespace
}  // namespace pikv::compression
