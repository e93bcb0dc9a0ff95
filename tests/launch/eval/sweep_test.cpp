// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Cells of a sweep, their statistics and their file.
#include "launch/eval/sweep.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"
#include "launch/eval/results.hpp"
#include "launch/options.hpp"
#include "launch/runtime.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

using testing_support::read_file;
using testing_support::TempFolder;
using Texts = std::vector<std::string>;

TEST(Sweep, PoliciesAreSplitAtTheCommasBetweenThem) {
  EXPECT_EQ(split_policies("a"), Texts{"a"});
  EXPECT_EQ(split_policies("a,b:x=1,y=2,c"), (Texts{"a", "b:x=1,y=2", "c"}));
  EXPECT_EQ(split_policies("a:x=1,b:y=2,z=3"), (Texts{"a:x=1", "b:y=2,z=3"}));
  EXPECT_EQ(split_policies("0.5,512"), (Texts{"0.5", "512"}));
  EXPECT_EQ(split_policies("a,,b"), (Texts{"a", "", "b"})) << "the table refuses the empty name";
}

TEST(Sweep, ABudgetIsAFractionOrACount) {
  EXPECT_EQ(parse_budget("0.25").fraction, 0.25);
  EXPECT_EQ(parse_budget("0.25").slots, std::nullopt);
  EXPECT_EQ(parse_budget("1.0").fraction, 1.0);
  EXPECT_EQ(parse_budget("1").slots, 1);
  EXPECT_EQ(parse_budget("512").slots, 512);
  for (const char* text : {"", "0", "0.0", "-1", "-0.5", "1.5", "nan", "inf", "10%", "1e-400x"}) {
    EXPECT_THROW((void)parse_budget(text), InvalidArgument) << text;
  }
}

TEST(Sweep, BudgetsOfAHead) {
  const KvBudget half{.fraction = 0.5};
  EXPECT_EQ(half.of(0, 0), 0);
  EXPECT_EQ(half.of(1, 1), 1) << "one slot stays";
  EXPECT_EQ(half.of(7, 7), 3);
  EXPECT_EQ(half.of(7, 10), 5) << "of the tokens seen, not of those left";
  EXPECT_EQ(half.of(7, 100), 7);
  const KvBudget ten{.slots = 10};
  EXPECT_EQ(ten.of(7, 7), 7);
  EXPECT_EQ(ten.of(700, 700), 10);
}

TEST(Sweep, EveryCombinationIsACellAndFullIsOneAMode) {
  SweepLists lists{.schedulers = {"full", "a"},
                   .budgets = {"0.5", "64"},
                   .codecs = {"none"},
                   .modes = {Mode::kAgnostic, Mode::kAware}};
  const std::vector<SweepCell> cells = make_cells(lists);
  ASSERT_EQ(cells.size(), 6u);
  EXPECT_EQ(cells[0].scheduler, "full");
  EXPECT_EQ(cells[0].budget, "1.0");
  EXPECT_EQ(cells[2].scheduler, "a");
  EXPECT_EQ(cells[2].budget, "64");
  EXPECT_EQ(cells[3].mode, Mode::kAware);
  EXPECT_EQ(cells[3].label(), "full");
  lists.codecs = {"none", "int4:axis=token"};
  const std::vector<SweepCell> with_codecs = make_cells(lists);
  ASSERT_EQ(with_codecs.size(), 12u);
  EXPECT_EQ(with_codecs[1].label(), "full, int4:axis=token");
  EXPECT_EQ(with_codecs[5].codec, "int4:axis=token");
  EXPECT_EQ(with_codecs[5].budget, "64");
  EXPECT_THROW((void)parse_mode("both"), InvalidArgument);
}

TEST(Sweep, TheRequestCompressesBeforeOrAfterTheQuestion) {
  const Sample sample{.id = "s", .group = "g", .context = {1, 2, 3}, .questions = {}};
  const Question question{.tokens = {4, 5}, .answers = {"x"}, .max_tokens = 7};
  const Request agnostic = make_request(sample, question, Mode::kAgnostic, {0});
  EXPECT_EQ(agnostic.prompt, (std::vector<TokenId>{1, 2, 3, 4, 5}));
  EXPECT_EQ(agnostic.context_tokens, 3);
  EXPECT_EQ(agnostic.max_tokens, 7);
  EXPECT_EQ(agnostic.stop_tokens, std::vector<TokenId>{0});
  EXPECT_EQ(make_request(sample, question, Mode::kAware, {0}).context_tokens, 4);
}

TEST(Sweep, QuestionsOfASampleShareItsContextOrFollowEachOther) {
  const auto question = [](TokenId token) {
    return Question{.tokens = {token}, .answers = {"x"}, .max_tokens = 7};
  };
  const std::vector<Sample> samples = {
      {.id = "a", .group = "g", .context = {1, 2}, .questions = {question(3), question(4)}},
      {.id = "b", .group = "g", .context = {5}, .questions = {question(6), question(7)}}};
  const auto apart = make_requests(samples, Mode::kAgnostic, Sharing::kNothing, {0});
  const auto context = make_requests(samples, Mode::kAgnostic, Sharing::kContext, {0});
  const auto talk = make_requests(samples, Mode::kAgnostic, Sharing::kConversation, {0});
  ASSERT_EQ(context.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FALSE(apart[i].start);
    EXPECT_EQ(context[i].prompt, apart[i].prompt);
    EXPECT_EQ(context[i].context_tokens, apart[i].context_tokens);
    EXPECT_EQ(context[i].start.has_value(), i % 2 == 1);
    EXPECT_EQ(talk[i].start.has_value(), i % 2 == 1);
  }
  EXPECT_EQ(context[3].start, (SharedStart{.request_idx = 2, .with_answer = false}));
  EXPECT_EQ(talk[3].start, (SharedStart{.request_idx = 2, .with_answer = true}));
  EXPECT_EQ(talk[3].prompt, std::vector<TokenId>{7});
  EXPECT_FALSE(talk[3].context_tokens);
}

TEST(Sweep, AContinuationIsForcedAndNothingElseIsGenerated) {
  const Sample sample{.id = "s", .group = "g", .context = {1, 2, 3}, .questions = {}};
  const Question question{.tokens = {4}, .answers = {}, .max_tokens = 7, .continuation = {5, 0, 6}};
  const Request request = make_request(sample, question, Mode::kAgnostic, {0});
  EXPECT_EQ(request.prompt, (std::vector<TokenId>{1, 2, 3, 4}));
  EXPECT_EQ(request.forced_tokens, question.continuation);
  EXPECT_EQ(request.max_tokens, 3);
  EXPECT_TRUE(request.stop_tokens.empty()) << "a stop token may stand in a text";
}

class ResultFiles : public testing::Test {
 protected:
  TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "results.jsonl";
  SweepCell cell_{.scheduler = "a:x=1", .budget = "0.1", .mode = Mode::kAware};
  CellResult result_{.groups = {{"g", {1.0, 0.5}}, {"h", {}}, {"p", {4.5}, Measure::kPerplexity}},
                     .kept = 0.125,
                     .kv_bytes = 4160.5,
                     .pages_read = 0.25,
                     .attention_read = 0.75,
                     .top_pages_read = 0.5,
                     .hit_rate = 0.875,
                     .scheduling_seconds = 1.5,
                     .seconds = 2.5};
};

TEST_F(ResultFiles, GiveBackWhatWasAppended) {
  ResultFile(path_, "setting").append(cell_, result_);
  const ResultFile file(path_, "setting");
  const CellResult* found = file.find(cell_);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->kept, 0.125);
  EXPECT_EQ(found->kv_bytes, 4160.5);
  EXPECT_EQ(found->pages_read, 0.25);
  EXPECT_EQ(found->attention_read, 0.75);
  EXPECT_EQ(found->top_pages_read, 0.5);
  EXPECT_EQ(found->hit_rate, 0.875);
  EXPECT_EQ(found->seconds, 2.5);
  ASSERT_EQ(found->groups.size(), 3u);
  EXPECT_EQ(found->groups[1].measure, Measure::kScore);
  EXPECT_EQ(found->groups[2].measure, Measure::kPerplexity);
  EXPECT_EQ(found->groups[0].scores, (std::vector<double>{1.0, 0.5}));
  SweepCell other = cell_;
  other.mode = Mode::kAgnostic;
  EXPECT_EQ(file.find(other), nullptr);
  other = cell_;
  other.codec = "int8";
  EXPECT_EQ(file.find(other), nullptr);
}

TEST_F(ResultFiles, OfBeforeBytesWereMeasuredAreStillGood) {
  ResultFile(path_, "setting").append(cell_, result_);
  std::string line = read_file(path_);
  const std::string bytes = "\"kv_bytes\":4160.5,";
  ASSERT_NE(line.find(bytes), std::string::npos) << line;
  line.erase(line.find(bytes), bytes.size());
  (void)folder_.write("results.jsonl", line);
  const ResultFile file(path_, "setting");
  ASSERT_NE(file.find(cell_), nullptr);
  EXPECT_EQ(file.find(cell_)->kv_bytes, 0);
}

TEST_F(ResultFiles, OtherSettingsAreLeftAlone) {
  ResultFile(path_, "one").append(cell_, result_);
  EXPECT_EQ(ResultFile(path_, "two").find(cell_), nullptr);
  ResultFile(path_, "two").append(cell_, result_);
  EXPECT_NE(ResultFile(path_, "one").find(cell_), nullptr);
}

TEST_F(ResultFiles, ALineThatWasCutOffIsDropped) {
  ResultFile(path_, "setting").append(cell_, result_);
  const std::string whole = read_file(path_);
  for (const std::size_t size : {std::size_t{1}, whole.size() / 2, whole.size() - 1}) {
    (void)folder_.write("results.jsonl", whole + whole.substr(0, size));
    EXPECT_NE(ResultFile(path_, "setting").find(cell_), nullptr);
    EXPECT_EQ(read_file(path_), whole);
  }
}

TEST_F(ResultFiles, SomethingElseIsRefused) {
  for (const char* text : {"hello\n", "[1, 2]\n", "{\"setting\": \"setting\"}\n", "{}\n\n"}) {
    (void)folder_.write("results.jsonl", text);
    EXPECT_THROW(ResultFile(path_, "setting"), BadFile) << text;
    EXPECT_EQ(read_file(path_), text) << "and not touched";
  }
  EXPECT_THROW(ResultFile(folder_.path() / "no" / "such", "setting"), BadFile);
}

}  // namespace
}  // namespace pikv::launch
