// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/metrics.hpp"

#include <gtest/gtest.h>

#include <array>

#include "kernels/common/error.hpp"
#include "launch/eval/task.hpp"

namespace pikv::launch {
namespace {

using Texts = std::vector<std::string>;

double of(Metric metric, std::string_view output, const Texts& answers, const Texts& classes = {}) {
  return score(metric, output, answers, classes);
}

constexpr std::array kAll = {Metric::kContains, Metric::kContainsShare, Metric::kExact,
                             Metric::kF1,       Metric::kRougeL,        Metric::kEdit,
                             Metric::kNumber,   Metric::kClassification};

TEST(Metrics, ANameLeadsBackToItsMetric) {
  for (const Metric metric : kAll) EXPECT_EQ(parse_metric(name(metric)), metric);
}

TEST(Metrics, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  for (const char* unknown : {"", "F1", "bleu"}) {
    try {
      (void)parse_metric(unknown);
      ADD_FAILURE() << unknown;
    } catch (const InvalidArgument& error) {
      for (const Metric metric : kAll) {
        EXPECT_NE(std::string_view(error.what()).find(name(metric)), std::string_view::npos);
      }
    }
  }
}

TEST(Metrics, EveryScoreIsBetweenZeroAndOneForAnyText) {
  const Texts texts = {"", " ", "\n", "the", "\xff\xfe", "É 7", "a b c", "007", "# x", "….”", "//"};
  for (const Metric metric : kAll) {
    for (const std::string& output : texts) {
      for (const std::string& answer : texts) {
        const double value = of(metric, output, {answer}, {"a", answer});
        EXPECT_GE(value, 0) << name(metric);
        EXPECT_LE(value, 1) << name(metric) << " '" << output << "' '" << answer << "'";
      }
    }
  }
}

TEST(Metrics, AQuestionWithoutReferencesIsAnError) {
  for (const Metric metric : kAll) EXPECT_THROW((void)of(metric, "x", {}), InvalidArgument);
  EXPECT_THROW((void)of(Metric::kClassification, "x", {"x"}, {}), InvalidArgument);
}

TEST(Contains, FindsTheAnswerAnywhereLetterForLetter) {
  EXPECT_EQ(of(Metric::kContains, " 66392.\nWhat", {"66392"}), 1);
  EXPECT_EQ(of(Metric::kContains, " 6639", {"66392"}), 0);
  EXPECT_EQ(of(Metric::kContains, "paris", {"Paris"}), 0);
  EXPECT_EQ(of(Metric::kContains, "x Zoë y", {"no", "Zoë"}), 1) << "the best reference counts";
}

TEST(Contains, AnEmptyAnswerIsFoundInAnEmptyOutputOnly) {
  EXPECT_EQ(of(Metric::kContains, "", {""}), 1);
  EXPECT_EQ(of(Metric::kContains, "text", {""}), 0);
  EXPECT_EQ(of(Metric::kContains, "", {"1"}), 0);
}

TEST(ContainsShare, CountsTheReferencesThatAreThere) {
  EXPECT_EQ(of(Metric::kContainsShare, " VH EG AB", {"VH", "AB", "XY", "EG"}), 0.75);
  EXPECT_EQ(of(Metric::kContainsShare, "", {"VH", "AB"}), 0);
  EXPECT_EQ(of(Metric::kContainsShare, "he had", {"HE"}), 0) << "a word is no variable";
}

TEST(Exact, ComparesWithoutCaseArticlesAndPunctuation) {
  EXPECT_EQ(of(Metric::kExact, " The  U.S. Army!", {"us army"}), 1);
  EXPECT_EQ(of(Metric::kExact, "“The” Élan", {"“ ” élan"}), 1);
  EXPECT_EQ(of(Metric::kExact, "theory", {"ory"}), 0);
  EXPECT_EQ(of(Metric::kExact, "a an", {"the"}), 1) << "both are empty";
  EXPECT_EQ(of(Metric::kExact, "", {"yes"}), 0);
}

TEST(F1, IsTheHarmonicMeanOverTheBagOfWords) {
  // Words {cat, sat, on, mat} and {cat, sat}: 2 common, 2 * 2 / (4 + 2).
  EXPECT_DOUBLE_EQ(of(Metric::kF1, "The cat sat on the mat.", {"a cat sat"}), 4.0 / 6.0);
  // {x, x, y} and {x, z}: a word counts as often as the other text has it.
  EXPECT_DOUBLE_EQ(of(Metric::kF1, "x x y", {"x z"}), 2.0 / 5.0);
  EXPECT_EQ(of(Metric::kF1, "ÉCOLE", {"école"}), 1);
  EXPECT_EQ(of(Metric::kF1, "", {"école"}), 0);
  EXPECT_EQ(of(Metric::kF1, "", {""}), 1);
  EXPECT_EQ(of(Metric::kF1, "no", {"yes", "no"}), 1);
}

TEST(RougeL, MeasuresTheLongestCommonSubsequence) {
  // police the gunman / police kill the gunman: 3 of 3 and 4 words.
  EXPECT_DOUBLE_EQ(of(Metric::kRougeL, "police the gunman", {"Police kill the gunman."}), 6.0 / 7);
  // The published example: "the gunman kill police" has only "the gunman" in order.
  EXPECT_DOUBLE_EQ(of(Metric::kRougeL, "the gunman kill police", {"police kill the gunman"}), 0.5);
  EXPECT_EQ(of(Metric::kRougeL, "", {"x"}), 0);
  EXPECT_EQ(of(Metric::kRougeL, "Straße, 東京", {"straße 東京"}), 1);
}

TEST(Edit, ComparesTheFirstLineOfCode) {
  EXPECT_EQ(of(Metric::kEdit, "\n\n# a comment\n```\n  return x;\nmore", {"  return x;"}), 1);
  EXPECT_EQ(of(Metric::kEdit, "// all\n# comments", {"x"}), 0);
  // abc and abd: 2 common characters of 3 and 3.
  EXPECT_DOUBLE_EQ(of(Metric::kEdit, "abc", {"abd"}), 4.0 / 6.0);
  // Characters, not bytes: é and è share a first byte.
  EXPECT_EQ(of(Metric::kEdit, "é", {"è"}), 0);
  EXPECT_EQ(of(Metric::kEdit, "", {"x"}), 0);
}

TEST(Classification, SharesThePointAmongTheNamesInTheOutput) {
  const Texts classes = {"Letter", "Letter or card", "City", "Food"};
  EXPECT_EQ(of(Metric::kClassification, "Type: City", {"City"}, classes), 1);
  EXPECT_EQ(of(Metric::kClassification, "City or Food", {"City"}, classes), 0.5);
  EXPECT_EQ(of(Metric::kClassification, "Food", {"City"}, classes), 0);
  EXPECT_EQ(of(Metric::kClassification, "", {"City"}, classes), 0);
  EXPECT_EQ(of(Metric::kClassification, "Letter or card", {"Letter or card"}, classes), 1)
      << "a name within the right one was not meant";
  EXPECT_EQ(of(Metric::kClassification, "Letter or card", {"Letter"}, classes), 0.5);
}

TEST(Number, IsTheShareOfTheNumbersThatAreRight) {
  EXPECT_EQ(of(Metric::kNumber, "Paragraph 15", {"Paragraph 15"}), 1);
  EXPECT_DOUBLE_EQ(of(Metric::kNumber, "15, 5 or 15?", {"15"}), 2.0 / 3.0);
  EXPECT_EQ(of(Metric::kNumber, "007 000", {"7"}), 0.5) << "leading zeros change nothing";
  EXPECT_EQ(of(Metric::kNumber, "0", {"00"}), 1);
  EXPECT_EQ(of(Metric::kNumber, "none", {"3"}), 0);
  EXPECT_EQ(of(Metric::kNumber, "3", {"none"}), 0);
}

TEST(Question, IsScoredOnItsFirstLineWhereTheTaskSaysSo) {
  Question question{.tokens = {}, .answers = {"City"}, .metric = Metric::kClassification};
  question.classes = {"City", "Food"};
  EXPECT_EQ(score(question, "City\nType: Food"), 0.5);
  question.first_line_only = true;
  EXPECT_EQ(score(question, "\nCity\nType: Food"), 1);
}

}  // namespace
}  // namespace pikv::launch
