// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Every task that makes its own samples, over every style and odd lengths.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "kernels/common/error.hpp"
#include "tests/launch/eval/eval_fixture.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

struct Case {
  std::string spec;
  std::int64_t unit_tokens;  // of the filler: no context is shorter than asked by more
  /// How the context states `answer` for the question `question`; "" when no line does.
  std::string (*statement)(const std::string& question, const std::string& answer);
  bool has_depth = true;
};

/// The part of `text` between two strings.
std::string between(const std::string& text, const std::string& left, const std::string& right) {
  const std::size_t begin = text.find(left) + left.size();
  return text.substr(begin, text.find(right, begin) - begin);
}

std::string passkey(const std::string&, const std::string& answer) {
  return "The pass key is " + answer + ". Remember it. " + answer + " is the pass key.";
}
std::string needle(const std::string& question, const std::string& answer) {
  return "One of the special magic numbers for " + between(question, "number for ", " mentioned") +
         " is: " + answer + ".";
}
std::string hex_line(const std::string& question, const std::string& answer) {
  return "\n" + between(question, "\nKey ", " value") + ": " + answer;
}
std::string register_line(const std::string& question, const std::string& answer) {
  return "line " + between(question, "in line ", "?") + ": REGISTER_CONTENT is <" + answer + ">\n";
}
std::string assignment(const std::string&, const std::string& answer) {
  return "VAR " + answer + " = ";
}
std::string value(const std::string&, const std::string& answer) { return " = " + answer + "."; }

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = {
      {"passkey", 8, passkey},
      {"passkey:style=easykv", 40, passkey},
      {"niah", 8, needle},
      {"niah:keys=5,queries=3", 8, needle},
      {"kv_retrieval", 24, hex_line},
      {"kv_retrieval:queries=7", 24, hex_line},
      {"kv_retrieval:style=needles,queries=2", 48, needle},
      {"longeval", 48, register_line},
      {"longeval:cue=line,queries=2", 48, register_line},
      {"variable_tracking", 8, assignment, false},
      {"variable_tracking:chains=3,hops=1", 8, assignment, false},
      {"variable_tracking:ask=value,hops=4", 8, value, false},
  };
  return cases;
}

TEST(GeneratedTasks, MeetTheLengthFromBelow) {
  for (const Case& test : all_cases()) {
    for (const std::int64_t length : {401, 512, 1009}) {
      const auto samples = samples_of(test.spec, {.num_samples = 3, .lengths = {length}});
      ASSERT_EQ(samples.size(), 3u) << test.spec;
      for (const Sample& sample : samples) {
        const auto size = static_cast<std::int64_t>(sample.context.size());
        EXPECT_EQ(sample.length, length);
        EXPECT_LE(size, length) << sample.id;
        EXPECT_GT(size, length - test.unit_tokens) << sample.id;
      }
    }
  }
}

TEST(GeneratedTasks, StateEveryAnswerOnceInTheContext) {
  for (const Case& test : all_cases()) {
    for (const Sample& sample : samples_of(test.spec, {.seed = 5, .lengths = {613}})) {
      const std::string context = text_of(sample.context);
      std::set<std::string> asked;
      for (const Question& question : sample.questions) {
        const std::string text = text_of(question.tokens);
        EXPECT_TRUE(asked.insert(text).second) << "asked twice: " << text;
        EXPECT_TRUE(text.starts_with('\n')) << text;
        ASSERT_FALSE(question.answers.empty());
        for (const std::string& answer : question.answers) {
          const std::string statement = test.statement(text, answer);
          const std::size_t at = context.find(statement);
          EXPECT_NE(at, std::string::npos) << sample.id << " lacks " << statement;
          EXPECT_EQ(context.find(statement, at + 1), std::string::npos) << statement;
        }
      }
    }
  }
}

TEST(GeneratedTasks, PutTheFirstAnswerAtTheDepth) {
  for (const Case& test : all_cases()) {
    if (!test.has_depth) continue;
    for (const double depth : {0.0, 0.3, 0.5, 1.0}) {
      for (const Sample& sample :
           samples_of(test.spec, {.num_samples = 2, .lengths = {2003}, .depths = {depth}})) {
        EXPECT_EQ(sample.depth, depth);
        const std::string context = text_of(sample.context);
        const Question& question = sample.questions.front();
        const std::string statement =
            test.statement(text_of(question.tokens), question.answers.front());
        const double header = static_cast<double>(context.find('\n') + 1);
        const double found = (static_cast<double>(context.find(statement)) - header) /
                             (static_cast<double>(context.size() - statement.size()) - header);
        EXPECT_NEAR(found, depth, 0.03) << sample.id;
      }
    }
  }
}

TEST(GeneratedTasks, GiveTheWholeAnswerRoom) {
  for (const Case& test : all_cases()) {
    for (const Sample& sample : samples_of(test.spec, {.num_samples = 2, .lengths = {500}})) {
      for (const Question& question : sample.questions) {
        std::string output;
        for (const std::string& answer : question.answers) output += " " + answer;
        const auto tokens = tiny_tokenizer().encode(output);
        EXPECT_GT(question.max_tokens, static_cast<std::int64_t>(tokens.size())) << sample.id;
        EXPECT_EQ(score(question, output), 1) << output;
        EXPECT_EQ(score(question, " nothing"), 0);
      }
    }
  }
}

TEST(GeneratedTasks, RepeatThemselvesForTheSameSeedAndNotForAnother) {
  for (const Case& test : all_cases()) {
    const TaskOptions options{.seed = 1, .num_samples = 2, .lengths = {450}};
    TaskOptions more = options;  // what else is asked for changes no sample
    more.num_samples = 3;
    more.lengths = {407, 450};
    TaskOptions other = options;
    other.seed = 2;
    const auto samples = samples_of(test.spec, options);
    const auto superset = samples_of(test.spec, more);
    const auto others = samples_of(test.spec, other);
    ASSERT_EQ(superset.size(), 6u);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      EXPECT_EQ(samples[i].id, superset[3 + i].id);
      EXPECT_EQ(samples[i].context, superset[3 + i].context) << samples[i].id;
      EXPECT_EQ(samples[i].questions.front().tokens, superset[3 + i].questions.front().tokens);
      EXPECT_NE(samples[i].context, others[i].context) << samples[i].id;
    }
    EXPECT_NE(samples[0].context, samples[1].context) << test.spec;
  }
}

TEST(GeneratedTasks, RefuseALengthThatCannotHoldThem) {
  for (const Case& test : all_cases()) {
    for (const std::int64_t length : {-1, 0, 1, 20}) {
      EXPECT_THROW((void)samples_of(test.spec, {.lengths = {length}}), InvalidArgument)
          << test.spec << " " << length;
    }
  }
}

TEST(GeneratedTasks, RefuseOptionsOutsideTheirRanges) {
  for (const Case& test : all_cases()) {
    for (const TaskOptions& options :
         {TaskOptions{.num_samples = -1}, TaskOptions{.num_samples = 0}, TaskOptions{.lengths = {}},
          TaskOptions{.depths = {1.01}}, TaskOptions{.depths = {-0.1}},
          TaskOptions{.max_tokens = 0}, TaskOptions{.lengths = {512, 512}}}) {
      EXPECT_THROW((void)samples_of(test.spec, options), InvalidArgument) << test.spec;
    }
  }
  for (const char* spec : {"niah:keys=2,queries=3", "niah:keys=0", "passkey:style=none",
                           "variable_tracking:chains=50,hops=9", "longeval:cue=yes"}) {
    EXPECT_THROW((void)samples_of(spec, {}), InvalidArgument) << spec;
  }
}

TEST(GeneratedTasks, HideInTheTextOfAFile) {
  const testing_support::TempFolder folder;
  std::string book;
  for (int i = 0; i < 3000; ++i) book += fmt::format("word{}{}", i, i % 9 == 0 ? ".\n" : " ");
  const auto file = folder.write("book", book);
  for (const char* spec : {"niah", "variable_tracking"}) {
    const auto samples = samples_of(spec, {.num_samples = 2, .lengths = {700}, .text_file = file});
    for (const Sample& sample : samples) {
      const std::string context = text_of(sample.context);
      EXPECT_NE(context.find("word"), std::string::npos) << spec;
      EXPECT_EQ(context.find("grass"), std::string::npos) << spec;
    }
    EXPECT_NE(samples[0].context, samples[1].context);
    EXPECT_THROW((void)samples_of(spec, {.text_file = folder.path() / "none"}), BadFile);
  }
}

TEST(GeneratedTasks, LetTheUserSetTheTokensToGenerate) {
  for (const Case& test : all_cases()) {
    const auto samples = samples_of(test.spec, {.num_samples = 1, .max_tokens = 3});
    for (const Question& question : samples.front().questions) EXPECT_EQ(question.max_tokens, 3);
  }
}

TEST(KvRetrieval, HasNamesEnoughForALongContext) {
  const auto samples =
      samples_of("kv_retrieval:style=needles", {.num_samples = 1, .lengths = {20'000}});
  EXPECT_GT(samples.front().context.size(), 19'900u);
}

TEST(VariableTracking, FollowsItsChainInOrder) {
  for (const Sample& sample : samples_of("variable_tracking:chains=2,hops=5", {})) {
    const std::string context = text_of(sample.context);
    const Question& question = sample.questions.front();
    ASSERT_EQ(question.answers.size(), 6u);
    std::string source = between(text_of(question.tokens), "the value ", " in");
    std::size_t at = 0;
    for (const std::string& variable : question.answers) {
      const std::size_t next = context.find("VAR " + variable + " = " + source + ".");
      ASSERT_NE(next, std::string::npos) << variable << " = " << source;
      EXPECT_GE(next, at);
      at = next;
      source = "VAR " + variable;
    }
  }
}

}  // namespace
}  // namespace pikv::launch
