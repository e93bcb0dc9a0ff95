// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/haystack.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"
#include "tests/support/bad_file.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

TEST(Haystack, BeginsAgainAfterItsLastWord) {
  const Haystack haystack("one\ttwo\n\nthree");
  ASSERT_EQ(haystack.num_words(), 3);
  EXPECT_EQ(haystack.hide(0, 0, {}), "");
  EXPECT_EQ(haystack.hide(0, 3, {}), "one\ttwo\n\nthree");
  EXPECT_EQ(haystack.hide(2, 5, {}), "three one\ttwo\n\nthree one");
}

TEST(Haystack, HidesANeedleBetweenTwoWords) {
  const Haystack haystack("a b c d");
  const auto hide = [&](double depth) {
    // A hundred words, so that the ends are out of reach.
    return haystack.hide(0, 100, {{.text = "PIN.", .depth = depth}});
  };
  EXPECT_TRUE(hide(0).starts_with("PIN. a b"));
  EXPECT_TRUE(hide(1).ends_with("c d PIN."));
  EXPECT_EQ(hide(0.5).find("d PIN. c"), std::string::npos);
  EXPECT_EQ(hide(0.5).find(" PIN. "), 50 * 2 - 1);
}

TEST(Haystack, PrefersTheNearEndOfASentence) {
  const Haystack haystack("a b. c d e f g h i j");
  const std::string text = haystack.hide(0, 300, {{.text = "PIN.", .depth = 0.5}});
  EXPECT_NE(text.find("b. PIN. c"), std::string::npos) << text;
}

TEST(Haystack, KeepsTheOrderOfNeedlesByDepth) {
  const Haystack haystack("w");
  EXPECT_EQ(haystack.hide(0, 1,
                          {{.text = "2", .depth = 1},
                           {.text = "1", .depth = 0.9},
                           {.text = "0", .depth = 0},
                           {.text = "00", .depth = 0}}),
            "0 00 w 1 2");
  EXPECT_EQ(haystack.hide(0, 0, {{.text = "1", .depth = 0}, {.text = "2", .depth = 0.3}}), "1 2");
}

TEST(Haystack, ReadsBooksThatNulsSeparate) {
  const testing_support::TempFolder folder;
  const auto file = folder.write("books", std::string_view("first\n\0\nsecond\n", 15));
  EXPECT_EQ(Haystack::from_file(file).hide(0, 2, {}), "first\n\nsecond");
}

TEST(Haystack, RefusesFilesWithoutWordsOrUtf8) {
  const testing_support::TempFolder folder;
  const auto refused = [&](std::string_view bytes, std::string_view reason) {
    const auto file = folder.write("text", bytes);
    testing_support::expect_bad_file([&] { (void)Haystack::from_file(file); }, "text", reason);
  };
  refused("", "no words");
  refused(" \n\t", "no words");
  refused("good \xff", "byte 5 is not UTF-8");
  testing_support::expect_bad_file([&] { (void)Haystack::from_file(folder.path() / "absent"); },
                                   "absent", "");
}

}  // namespace
}  // namespace pikv::launch
