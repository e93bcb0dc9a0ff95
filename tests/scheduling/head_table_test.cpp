// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/head_table.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/support/bad_file.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::scheduling {
namespace {

using testing_support::expect_bad_file;
using testing_support::TempFolder;

const std::filesystem::path kShared = std::filesystem::path(PIKV_SHARED_DIR) / "heads";

std::vector<double> read(const TempFolder& folder, std::string_view text, std::int64_t num_layers,
                         std::int64_t num_kv_heads) {
  return HeadTable::from_file(folder.write("heads", text), -10, 10)
      .by_kv_head(num_layers, num_kv_heads);
}

TEST(HeadTable, ReadsALineALayer) {
  const TempFolder folder;
  EXPECT_EQ(read(folder, "# importance\n1 2.5e0\n\n-3\t 4  # the last\r\n", 2, 2),
            (std::vector<double>{1, 2.5, -3, 4}));
}

TEST(HeadTable, ReadsJsonEntriesAndTheMeansOfLists) {
  const TempFolder folder;
  EXPECT_EQ(read(folder, R"({"1-0": 3, "0-0": [1, 2, 3], "0-1": [0.5], "1-1": -4})", 2, 2),
            (std::vector<double>{2, 0.5, 3, -4}));
  // More than ten of each: the order is that of numbers, not of text.
  std::ostringstream text;
  std::vector<double> expected;
  for (int i = 0; i < 12 * 11; ++i) {
    text << (i == 0 ? "{" : ", ") << '"' << i / 11 << '-' << i % 11 << "\": " << i % 7;
    expected.push_back(i % 7);
  }
  text << "}";
  EXPECT_EQ(read(folder, text.str(), 12, 11), expected);
}

TEST(HeadTable, AveragesTheQueryHeadsOfAGroup) {
  const TempFolder folder;
  EXPECT_EQ(read(folder, "1 3 5 9", 1, 2), (std::vector<double>{2, 7}));
  EXPECT_EQ(read(folder, "1 3 5 9", 1, 1), (std::vector<double>{4.5}));
}

TEST(HeadTable, ATableOfAnotherModelIsAnErrorThatNamesBothShapes) {
  const TempFolder folder;
  for (const auto& [layers, heads] : {std::pair{3, 2}, std::pair{2, 3}, std::pair{2, 4}}) {
    expect_bad_file([&] { (void)read(folder, "1 2\n3 4\n", layers, heads); }, "heads",
                    "a table of 2 layers x 2 heads, but the model has " + std::to_string(layers) +
                        " layers x " + std::to_string(heads) + " KV heads");
  }
}

TEST(HeadTable, AMalformedFileIsAnErrorThatNamesThePlace) {
  const TempFolder folder;
  const auto reason = [&](std::string_view text, std::string_view expected) {
    SCOPED_TRACE(text);
    expect_bad_file([&] { (void)read(folder, text, 2, 2); }, "heads", expected);
  };
  reason("", "no numbers in it");
  reason("# nothing\n\n", "no numbers in it");
  reason("1 2\n3 x4\n", "heads:2: 'x4' is not a number in [-10, 10]");
  reason("1 2\n3 11\n", "heads:2: '11' is not a number in [-10, 10]");
  reason("1 nan\n3 4\n", "heads:1: 'nan' is not a number");
  reason("1 inf\n3 4\n", "heads:1: 'inf' is not a number");
  reason("1 2\n\n3 4 5\n", "heads:3: 3 numbers, but 2 in the lines before");
  reason("{", "not a JSON object");
  reason("{}", "no numbers in it");
  reason(R"({"0-0": 1, "zero": 1})", "entry 'zero' is not named layer-head");
  reason(R"({"0-0": 1, "0--1": 1})", "entry '0--1' is not named layer-head");
  reason(R"({"0-0": 1, "0-1": []})", "entry '0-1' is not a number or a list of numbers");
  reason(R"({"0-0": 1, "0-1": [1, "a"]})", "entry '0-1' is not a number or a list of numbers");
  reason(R"({"0-0": 1, "0-1": null})", "entry '0-1' is not a number or a list of numbers");
  reason(R"({"0-0": 1, "0-1": 1, "1-1": 1})", "entry '1-0' is missing in a table of 2 layers x 2");
  reason(R"({"0-0": 1, "0-1": 1, "1-0": 1})", "entry '1-1' is missing in a table of 2 layers x 2");
  reason(R"({"1000000-1000000": 1})", "entry '0-0' is missing");
  reason(R"({"9223372036854775807-0": 1})", "is not named layer-head");
  expect_bad_file([&] { (void)HeadTable::from_file(folder.path() / "absent", 0, 1); }, "absent",
                  "");
}

TEST(HeadTable, ReadsWhatItWrote) {
  const TempFolder folder;
  const std::vector<double> values = {0.1, -3, 1.0 / 3, 0, 1e-7, 9};
  HeadTable("made", 3, 2, values).write(folder.path() / "heads");
  const HeadTable table = HeadTable::from_file(folder.path() / "heads", -10, 10);
  EXPECT_EQ(table.by_kv_head(3, 2), values);
  expect_bad_file([&] { HeadTable("made", 3, 2, values).write(folder.path() / "no" / "folder"); },
                  "no/folder", "cannot be written");
}

TEST(HeadTable, ReadsThePublishedTables) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs " << kShared;
  const auto importance = HeadTable::from_file(
      kShared / "headkv" / "Meta-Llama-3-8B-Instruct_retrieval_reasoning_heads.json", 0, 1e9);
  EXPECT_EQ(importance.num_layers(), 32);
  EXPECT_EQ(importance.num_heads(), 32);
  const auto gates = HeadTable::from_file(
      kShared / "duo-attention" / "Meta-Llama-3.1-8B-Instruct" / "full_attention_heads.tsv", -1, 2);
  EXPECT_EQ(gates.num_layers(), 32);
  EXPECT_EQ(gates.num_heads(), 8);
  EXPECT_EQ(gates.by_kv_head(32, 8)[0], 0.60546875);
  EXPECT_EQ(gates.by_kv_head(32, 8)[3], 0.68359375);
}

}  // namespace
}  // namespace pikv::scheduling
