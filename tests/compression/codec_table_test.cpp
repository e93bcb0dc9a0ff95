// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/codec_table.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "compression/compose.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/bad_file.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::compression {
namespace {

using testing_support::expect_bad_file;
using testing_support::TempFolder;

const CachedModel kModel{.num_layers = 2, .num_kv_heads = 2, .head_dim = 64, .fingerprint = "abc"};

CodecTable some_table() {
  return {.model = kModel,
          .keys = {"int8", "hadamard+int4:axis=token", "int8", "int8"},
          .values = {"int4", "int2:axis=token,channels=16", "int4", "none:dtype=bf16"}};
}

TEST(CodecTable, ComesBackAsItWasWritten) {
  const TempFolder folder;
  const auto path = folder.path() / "table";
  some_table().write(path);
  const CodecTable read = CodecTable::read(path);
  EXPECT_EQ(read.model, kModel);
  EXPECT_EQ(read.keys, some_table().keys);
  EXPECT_EQ(read.values, some_table().values);
}

TEST(CodecTable, AnythingElseIsRefusedWithItsLine) {
  const TempFolder folder;
  const auto path = folder.path() / "table";
  const auto expect = [&](const std::string& text, std::string_view reason) {
    std::ofstream(path) << text;
    expect_bad_file([&] { (void)CodecTable::read(path); }, path.string(), reason);
  };
  const std::string first = "pikv-codec-table-1 abc 1 2 64\n";
  expect("", ":0: not 'pikv-codec-table-1 FINGERPRINT");
  expect("int8\n", ":1: not 'pikv-codec-table-1 FINGERPRINT");
  expect("# a comment\npikv-codec-table-1 abc 1 2\n", ":2: not 'pikv-codec-table-1");
  expect("pikv-codec-table-1 abc 1 x 64\n", ":1: 'x' is not a whole number in [1, ");
  expect("pikv-codec-table-1 abc 0 2 64\n", ":1: '0' is not a whole number in [1, ");
  expect(first, "not '0 0 CODEC_OF_KEYS CODEC_OF_VALUES'");
  expect(first + "0 0 int8\n", ":2: not '0 0 CODEC_OF_KEYS");
  expect(first + "0 0 int8 int8\n1 0 int8 int8\n", ":3: not '0 1 CODEC_OF_KEYS");
  expect(first + "0 0 int8 int8\n0 1 int8 int8\n0 2 int8 int8\n", ":4: there are more heads");
  EXPECT_THROW((void)CodecTable::read(folder.path() / "none"), BadFile);
  EXPECT_THROW(some_table().write(folder.path() / "no" / "folder"), BadFile);
}

TEST(AutoCodec, HeadsGetTheFormsAndTheBasisThatTheTableNames) {
  const TempFolder folder;
  const std::string path = (folder.path() / "table").string();
  some_table().write(path);
  const auto codec = make_codec("auto:file=" + path);
  const PageLayout open = make_page_layout(32, 64, DType::kF32);
  const std::vector<RowForms> forms = codec->forms(open);
  ASSERT_EQ(forms.size(), 3u) << "two heads are alike";
  const auto form = [&](std::uint32_t layer, std::uint32_t head) {
    return forms[codec->form_of(LayerId{layer}, HeadId{head})];
  };
  EXPECT_EQ(form(0, 0).keys, ElementForm(Element::kInt8, ScaleAxis::kPerChannel, 32));
  EXPECT_EQ(form(0, 1).keys, ElementForm(Element::kInt4, ScaleAxis::kPerSlot, 64));
  EXPECT_EQ(form(0, 1).values, ElementForm(Element::kInt2, ScaleAxis::kPerSlot, 16));
  EXPECT_EQ(form(1, 1).values, ElementForm(DType::kBf16));
  EXPECT_EQ(codec->form_of(LayerId{0}, HeadId{0}), codec->form_of(LayerId{1}, HeadId{0}));

  const auto basis = codec->make_basis(kModel);
  ASSERT_NE(basis, nullptr);
  EXPECT_TRUE(basis->values().empty());
  const std::vector<float>& in = basis->keys().in;
  ASSERT_EQ(in.size(), 4u * 64 * 64);
  EXPECT_EQ(in[1], 0.0f) << "of the first head, as it was";
  EXPECT_EQ(in[64 * 64 + 1], 0.125f) << "of the second, turned";
  EXPECT_EQ(in[2 * 64 * 64 + 65], 1.0f);
}

TEST(AutoCodec, WhatItCannotBeIsRefused) {
  const TempFolder folder;
  const std::string path = (folder.path() / "table").string();
  const std::string spec = "auto:file=" + path;
  CodecTable table = some_table();
  table.write(path);
  CachedModel other = kModel;
  other.fingerprint = "abd";
  expect_bad_file([&] { (void)make_codec(spec)->make_basis(other); }, path,
                  "was fitted to model abc of 2 x 2 heads of 64, this is abd of 2 x 2 of 64");
  EXPECT_THROW((void)make_codec("hadamard+" + spec), InvalidArgument) << "it has a basis already";
  table.keys[1] = "int8";
  table.write(path);
  expect_bad_file([&] { (void)make_codec("hadamard+" + spec)->make_basis(other); }, path, "abd");
  const auto expect_refused = [&](const std::string& name) {
    table.keys[2] = name;
    table.write(path);
    EXPECT_THROW((void)make_codec(spec), InvalidArgument) << name;
  };
  expect_refused(spec);
  expect_refused("hadamard+" + spec);
  expect_refused("int8/" + spec);
  expect_refused("pyramid");
  expect_refused("svd:rank=32");
  expect_refused("int3");
  EXPECT_THROW((void)make_codec("auto"), InvalidArgument);
}

}  // namespace
}  // namespace pikv::compression
