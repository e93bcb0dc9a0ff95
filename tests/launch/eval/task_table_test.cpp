// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "kernels/common/error.hpp"
#include "launch/eval/key_words.hpp"
#include "tests/launch/eval/eval_fixture.hpp"

namespace pikv::launch {
namespace {

std::string refusal(const std::string& spec) {
  try {
    (void)make_policy<Task>("task", tasks(), spec);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  ADD_FAILURE() << "took '" << spec << "'";
  return {};
}

TEST(TaskTable, MakesEveryTaskByItsName) {
  std::set<std::string_view> names;
  for (const auto& row : tasks()) {
    EXPECT_EQ(make_policy<Task>("task", tasks(), row.name)->name(), row.name);
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_FALSE(row.summary.empty());
    EXPECT_FALSE(row.source.empty());
  }
}

TEST(TaskTable, AnswersAnUnknownNameWithTheKnownOnes) {
  for (const char* spec : {"", "needle", "Passkey"}) {
    const std::string message = refusal(spec);
    EXPECT_NE(message.find("unknown task"), std::string::npos) << message;
    for (const auto& row : tasks()) EXPECT_NE(message.find(row.name), std::string::npos);
  }
}

TEST(TaskTable, RefusesOptionsThatATaskDoesNotHave) {
  for (const auto& row : tasks()) {
    EXPECT_NE(refusal(std::string(row.name) + ":no_such_option=1").find("no_such_option"),
              std::string::npos);
  }
}

TEST(KeyWords, AreDistinctAndDrawnWithoutRepetition) {
  const auto all = static_cast<std::int64_t>(key_words().size());
  EXPECT_EQ(std::set(key_words().begin(), key_words().end()).size(), key_words().size());
  const auto drawn = draw_key_words(Draw(1, "x"), all);
  EXPECT_EQ(std::set(drawn.begin(), drawn.end()).size(), key_words().size());
  EXPECT_TRUE(draw_key_words(Draw(1, "x"), 0).empty());
  EXPECT_THROW((void)draw_key_words(Draw(1, "x"), all + 1), InvalidArgument);
  Draw draw(3, "pairs");
  EXPECT_EQ(draw_short_name(draw, 0).find('-'), std::string::npos);
  EXPECT_EQ(std::ranges::count(draw_short_name(draw, key_words().size()), '-'), 1);
  EXPECT_EQ(std::ranges::count(draw_name(draw, 1 << 20), '-'), 3);
  for (int i = 0; i < 1000; ++i) {
    const std::string pair = draw_word_pair(draw);
    const std::size_t hyphen = pair.find('-');
    EXPECT_NE(pair.substr(0, hyphen), pair.substr(hyphen + 1));
  }
}

}  // namespace
}  // namespace pikv::launch
