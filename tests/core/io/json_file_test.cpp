// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/json_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/bad_file.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

using testing_support::expect_bad_file;
using testing_support::TempFolder;

constexpr const char* kFile = "case.json";

JsonObject object(std::string_view text) { return JsonObject::from_text(text, kFile); }

const std::string kDeep = std::string(100'000, '[') + std::string(100'000, ']');

TEST(JsonObject, TextThatIsNoObjectIsRefused) {
  const TempFolder folder;
  const std::vector<std::string> texts = {"",
                                          "{",
                                          "}",
                                          "[]",
                                          "7",
                                          "null",
                                          "\"text\"",
                                          "{}x",
                                          "{\"a\"",
                                          "{\"a\":}",
                                          "{\"a\":1,}",
                                          "{'a':1}",
                                          "\xff",
                                          "{\"\xc3\":1}",
                                          "{\"a\":1e999}",
                                          kDeep,
                                          std::string(100'000, '['),
                                          std::string(100'000, '{'),
                                          "{\"a\":" + kDeep,
                                          "// {}"};
  for (const std::string& text : texts) {
    SCOPED_TRACE(text.substr(0, 20));
    expect_bad_file([&] { (void)object(text); }, kFile, "not a JSON object");
    const auto path = folder.write(kFile, text);
    expect_bad_file([&] { (void)JsonObject::from_file(path); }, path.string(), "not a JSON object");
  }
}

TEST(JsonObject, IsRefusedWhereverItsFileIsCutOff) {
  const TempFolder folder;
  const std::string text = R"({"a": [1, {"b": "text"}], "c": 1.5e3, "d": true})";
  for (std::size_t size = 0; size < text.size(); ++size) {
    const auto path = folder.write(kFile, text.substr(0, size));
    expect_bad_file([&] { (void)JsonObject::from_file(path); }, path.string(), "not a JSON object");
  }
  EXPECT_NO_THROW((void)JsonObject::from_file(folder.write(kFile, text)));
}

TEST(JsonObject, WhatIsNotAFileIsRefused) {
  const TempFolder folder;
  const auto missing = folder.path() / kFile;
  expect_bad_file([&] { (void)JsonObject::from_file(missing); }, missing.string(), "No such file");
  expect_bad_file([&] { (void)JsonObject::from_file(folder.path()); }, folder.path().string(),
                  "not a regular file");
  std::filesystem::create_symlink(missing, missing);
  expect_bad_file([&] { (void)JsonObject::from_file(missing); }, missing.string(), "cannot open");
}

TEST(JsonObject, AFileWithoutPermissionIsRefused) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const TempFolder folder;
  const auto path = folder.write(kFile, "{}");
  std::filesystem::permissions(path, std::filesystem::perms::none);
  expect_bad_file([&] { (void)JsonObject::from_file(path); }, path.string(), "Permission denied");
}

TEST(JsonObject, NullCountsAsMissing) {
  const JsonObject json = object(R"({"a": null})");
  EXPECT_FALSE(json.has("a"));
  EXPECT_FALSE(json.optional_integer({"a"}).has_value());
  EXPECT_FALSE(json.optional_number({"a"}).has_value());
  EXPECT_FALSE(json.optional_string({"a"}).has_value());
  EXPECT_FALSE(json.optional_object("a").has_value());
  EXPECT_TRUE(json.boolean_or("a", true));
  EXPECT_TRUE(json.integers("a").empty());
  EXPECT_TRUE(json.strings("a").empty());
  expect_bad_file([&] { (void)json.integer({"a"}, 0, 9); }, kFile, "key 'a' is missing");
  expect_bad_file([&] { (void)json.number({"a"}); }, kFile, "key 'a' is missing");
  expect_bad_file([&] { (void)json.string({"a", "b"}); }, kFile, "key 'a' or 'b' is missing");
}

TEST(JsonObject, TheFirstKeyThatIsThereCounts) {
  const JsonObject json = object(R"({"old": 1, "new": 2, "gone": null})");
  EXPECT_EQ(json.integer({"new", "old"}, 0, 9), 2);
  EXPECT_EQ(json.integer({"gone", "old"}, 0, 9), 1);
}

TEST(JsonObject, IntegersAreWholeAndInRange) {
  const JsonObject json = object(
      R"({"low": -1, "high": 10, "fraction": 1.0, "text": "1", "max": 9223372036854775807,
          "over": 9223372036854775808, "far": 18446744073709551616})");
  expect_bad_file([&] { (void)json.integer({"low"}, 0, 9); }, kFile,
                  "'low' = -1 is outside [0, 9]");
  expect_bad_file([&] { (void)json.integer({"high"}, 0, 9); }, kFile, "is outside [0, 9]");
  for (const char* key : {"fraction", "text", "over", "far"}) {
    expect_bad_file([&] { (void)json.optional_integer({key}); }, kFile, "is not an integer");
    expect_bad_file([&] { (void)json.integers(key); }, kFile, "is not an integer or a list");
  }
  EXPECT_EQ(json.optional_integer({"max"}), INT64_MAX);
}

TEST(JsonObject, AValueOfAnotherTypeIsRefused) {
  const JsonObject json = object(R"({"a": [], "list": [1, "x"], "object": {"k": 1}, "n": 1})");
  expect_bad_file([&] { (void)json.optional_number({"a"}); }, kFile, "'a' is not a number");
  expect_bad_file([&] { (void)json.boolean_or("n", false); }, kFile, "'n' is not true or false");
  expect_bad_file([&] { (void)json.optional_string({"n"}); }, kFile, "'n' is not a string");
  expect_bad_file([&] { (void)json.optional_object("n"); }, kFile, "'n' is not an object");
  expect_bad_file([&] { (void)json.integers("list"); }, kFile, "an item that is no integer");
  expect_bad_file([&] { (void)json.strings("list"); }, kFile, "an item that is no string");
  expect_bad_file([&] { (void)json.strings("n"); }, kFile, "not a list of strings");
  expect_bad_file([&] { (void)json.optional_object("object")->string_members(); }, kFile,
                  "'k' is not a string");
}

TEST(JsonObject, AMemberNamesItsPlaceInErrors) {
  const JsonObject json = object(R"({"outer": {"inner": {"key": "x"}}})");
  const auto inner = json.optional_object("outer")->optional_object("inner");
  EXPECT_EQ(inner->source(), "case.json: outer: inner");
  expect_bad_file([&] { (void)inner->number({"key"}); }, "case.json: outer: inner: ", "'key'");
}

TEST(JsonObject, QuotesNoControlCharacters) {
  const JsonObject json = object(R"({"a\nb\u001b[2J": 1})");
  expect_bad_file([&] { (void)json.string_members(); }, kFile, "key 'a?b?[2J' is not a string");
}

TEST(JsonObject, AMemberOutlivesTheWhole) {
  const auto member = [] { return object(R"({"a": {"b": 7}})").optional_object("a"); }();
  EXPECT_EQ(member->integer({"b"}, 0, 9), 7);
}

TEST(JsonObject, AMemberMayNestDeeply) {
  const JsonObject json = object(R"({"a": {"b": )" + kDeep + "}}");
  const auto member = json.optional_object("a");
  ASSERT_TRUE(member.has_value());
  expect_bad_file([&] { (void)member->integers("b"); }, kFile, "an item that is no integer");
}

TEST(JsonObject, ListsKeepTheirOrder) {
  const JsonObject json = object(R"({"n": [3, -1, 2], "one": 5, "s": ["b", "a"], "none": []})");
  EXPECT_EQ(json.integers("n"), (std::vector<std::int64_t>{3, -1, 2}));
  EXPECT_EQ(json.integers("one"), std::vector<std::int64_t>{5});
  EXPECT_EQ(json.strings("s"), (std::vector<std::string>{"b", "a"}));
  EXPECT_TRUE(json.integers("none").empty());
  const auto members = object(R"({"y": "1", "x": "2"})").string_members();
  EXPECT_EQ(members, (std::vector<std::pair<std::string, std::string>>{{"x", "2"}, {"y", "1"}}));
}

}  // namespace
}  // namespace pikv
