// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/stop_strings.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

TEST(StopStrings, WithoutAnyAllTextPassesAtOnce) {
  StopStrings stops({});
  EXPECT_EQ(stops.push("abc"), "abc");
  EXPECT_EQ(stops.push(""), "");
  EXPECT_EQ(stops.finish(), "");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, TextThatMayStillBecomeAStopIsHeldBack) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("go E"), "go ");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("x"), "ENx");
  EXPECT_EQ(stops.push("EN"), "");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, TheTextEndsBeforeTheStopAndNothingFollows) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("one E"), "one ");
  EXPECT_EQ(stops.push("ND two"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, TheFirstInTheTextWins) {
  StopStrings stops({"world", "o"});
  EXPECT_EQ(stops.push("hello world"), "hell");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, AStopThatOverlapsItselfIsFound) {
  StopStrings stops({"aab"});
  EXPECT_EQ(stops.push("aa"), "");
  EXPECT_EQ(stops.push("a"), "a");
  EXPECT_EQ(stops.push("b"), "");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, AnEmptyStopIsRefused) { EXPECT_THROW(StopStrings({"a", ""}), InvalidArgument); }

TEST(StopStrings, AnyCutOfAnyTextGivesTheSame) {
  Random random(141);
  const std::vector<std::vector<std::string>> sets = {{"aba"}, {"ab", "bab"}, {"aa", "b", "abab"}};
  for (int round = 0; round < 2000; ++round) {
    const auto& set = sets[static_cast<std::size_t>(random.integer(0, 2))];
    std::string text;
    for (std::int64_t i = random.integer(0, 20); i > 0; --i) text += "abc"[random.integer(0, 2)];
    StopStrings stops(set);
    std::string passed;
    for (std::size_t at = 0; at < text.size() && !stops.stopped();) {
      const auto count = static_cast<std::size_t>(random.integer(0, 4));
      passed += stops.push(std::string_view(text).substr(at, count));
      at += count;
      ASSERT_EQ(passed, text.substr(0, passed.size())) << "only final text passes";
    }
    passed += stops.finish();
    // A stop that ends earlier is seen first, whatever else begins before it.
    std::size_t first_end = std::string::npos;
    for (const std::string& stop : set) {
      const std::size_t found = text.find(stop);
      if (found != std::string::npos) first_end = std::min(first_end, found + stop.size());
    }
    ASSERT_EQ(stops.stopped(), first_end != std::string::npos) << text;
    if (!stops.stopped()) {
      ASSERT_EQ(passed, text);
      continue;
    }
    // Where the text is cut decides between stops that overlap; each begins where the text ended.
    ASSERT_TRUE(std::ranges::any_of(set,
                                    [&](const std::string& stop) {
                                      return text.compare(passed.size(), stop.size(), stop) == 0;
                                    }))
        << text << " gave " << passed;
    for (const std::string& stop : set) ASSERT_EQ(passed.find(stop), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace pikv
