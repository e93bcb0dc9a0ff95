// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Windows of books: the tasks perplexity, kl and output_error.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "kernels/common/error.hpp"
#include "tests/launch/eval/eval_fixture.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

using testing_support::TempFolder;

class Continuation : public testing::Test {
 protected:
  /// Two books, one counting in digits and one in stars, and one that is too short.
  Continuation() {
    std::string text;
    for (int i = 0; i < 300; ++i) text += std::to_string(i) + " ";
    text += '\n' + std::string(1, '\0') + "\n";
    for (int i = 0; i < 300; ++i)
      text += std::string(static_cast<std::size_t>(i % 7 + 1), '*') + " ";
    text += '\n' + std::string(1, '\0') + "\nshort";
    options_.text_file = folder_.write("books", text);
    options_.lengths = {64};
    options_.num_samples = 20;
  }

  TempFolder folder_;
  TaskOptions options_;
};

std::vector<TokenId> window_of(const Sample& sample) {
  std::vector<TokenId> tokens = sample.context;
  const Question& question = sample.questions[0];
  tokens.insert(tokens.end(), question.tokens.begin(), question.tokens.end());
  tokens.insert(tokens.end(), question.continuation.begin(), question.continuation.end());
  return tokens;
}

TEST_F(Continuation, IsAWindowOfOneBook) {
  options_.lengths = {64, 100};
  const std::vector<Sample> samples = samples_of("perplexity:continuation=32", options_);
  ASSERT_EQ(samples.size(), 40u);
  std::set<std::string> texts;
  int num_digits = 0;
  for (const Sample& sample : samples) {
    EXPECT_EQ(sample.group, "perplexity");
    EXPECT_EQ(sample.depth, -1);
    EXPECT_EQ(sample.context.size(), static_cast<std::size_t>(sample.length));
    ASSERT_EQ(sample.questions.size(), 1u);
    EXPECT_EQ(sample.questions[0].tokens.size(), 1u);
    EXPECT_EQ(sample.questions[0].continuation.size(), 32u);
    const std::string text = text_of(window_of(sample));
    const bool has_digits = text.find_first_of("0123456789") != std::string::npos;
    EXPECT_NE(has_digits, text.find('*') != std::string::npos) << text;
    num_digits += has_digits;
    texts.insert(text);
  }
  EXPECT_GT(texts.size(), 35u);
  EXPECT_GT(num_digits, 0);
  EXPECT_LT(num_digits, 40);
}

TEST_F(Continuation, AllMeasuresReadTheSameWindows) {
  const std::vector<Sample> perplexity = samples_of("perplexity", options_);
  const std::vector<Sample> kl = samples_of("kl", options_);
  const std::vector<Sample> error = samples_of("output_error", options_);
  ASSERT_EQ(kl.size(), perplexity.size());
  ASSERT_EQ(error.size(), perplexity.size());
  EXPECT_EQ(error[0].group, "output_error");
  for (std::size_t i = 0; i < kl.size(); ++i) {
    EXPECT_EQ(window_of(kl[i]), window_of(perplexity[i]));
    EXPECT_EQ(window_of(error[i]), window_of(perplexity[i]));
    EXPECT_EQ(kl[i].questions[0].continuation.size(), 128u);
  }
  options_.seed = 1;
  EXPECT_NE(window_of(samples_of("kl", options_)[0]), window_of(kl[0]));
}

TEST_F(Continuation, AWindowMayFillABook) {
  const auto book = options_.text_file = folder_.write("book", "one two three");
  const auto tokens = static_cast<std::int64_t>(tiny_tokenizer().encode("one two three").size());
  options_.lengths = {tokens - 2};
  const auto samples = samples_of("kl:continuation=1", options_);
  EXPECT_EQ(text_of(window_of(samples[0])), "one two three");
  options_.lengths = {tokens - 1};
  EXPECT_THROW((void)samples_of("kl:continuation=1", options_), BadFile);
}

TEST_F(Continuation, NeedsAText) {
  options_.text_file.reset();
  EXPECT_THROW((void)samples_of("perplexity", options_), InvalidArgument);
  options_.text_file = folder_.write("bytes", "a\xff");
  EXPECT_THROW((void)samples_of("perplexity", options_), BadFile);
  options_.text_file = folder_.write("empty", "");
  EXPECT_THROW((void)samples_of("perplexity", options_), BadFile);
}

}  // namespace
}  // namespace pikv::launch
