// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "kernels/common/error.hpp"
#include "launch/eval/datasets.hpp"
#include "tests/launch/eval/eval_fixture.hpp"
#include "tests/support/bad_file.hpp"
#include "tests/support/safetensors_image.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

namespace fs = std::filesystem;
using testing_support::expect_bad_file;
using testing_support::TempFolder;
using testing_support::TensorImage;

TensorImage ids_image(const std::vector<std::int32_t>& ids) {
  return {"I32",
          {static_cast<std::int64_t>(ids.size())},
          std::string(reinterpret_cast<const char*>(ids.data()), 4 * ids.size())};
}

class IdsFiles {
 public:
  IdsFiles() {
    tensors["a.0.context"] = ids_image({5, 6, 7});
    tensors["a.0.question.0"] = ids_image({8});
    tensors["a.0.question.1"] = ids_image({9, 10});
    tensors["b.4.context"] = {"I64", {1}, std::string("\x0b\0\0\0\0\0\0\0", 8)};
    tensors["b.4.question.0"] = ids_image({12});
  }
  [[nodiscard]] std::vector<Sample> read(TaskOptions options = {}) const {
    options.file = folder.write("set.safetensors", testing_support::safetensors_image(tensors));
    folder.write("set.json", json);
    return samples_of("ids", options);
  }
  void refused(std::string_view reason) const {
    expect_bad_file([&] { (void)read(); }, "set.", reason);
  }

  TempFolder folder;
  std::map<std::string, TensorImage> tensors;
  std::string json = R"([{"task": "a", "index": 0, "answers": ["66392", "x"]},
                         {"task": "b", "index": 4, "answers": ["1"]}])";
};

TEST(Ids, AreTakenAsTheFileStatesThem) {
  const auto samples = IdsFiles().read();
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].id, "a.0");
  EXPECT_EQ(samples[0].group, "a");
  EXPECT_EQ(samples[0].context, (std::vector<TokenId>{5, 6, 7}));
  ASSERT_EQ(samples[0].questions.size(), 2u);
  EXPECT_EQ(samples[0].questions[1].tokens, (std::vector<TokenId>{9, 10}));
  EXPECT_EQ(samples[0].questions[0].answers, std::vector<std::string>{"66392"});
  EXPECT_EQ(samples[0].questions[0].max_tokens, 5 + 1) << "a token a digit, and one more";
  EXPECT_EQ(samples[1].id, "b.4");
  EXPECT_EQ(samples[1].context, std::vector<TokenId>{11});
}

TEST(Ids, RefuseFilesThatLie) {
  IdsFiles files;
  files.json = "[]";
  files.refused("not a JSON list");
  files.json = "[3]";
  files.refused("sample 0: not a JSON object");
  files.json = R"([{"task": "a", "index": 1, "answers": ["x"]}])";
  files.refused("a.1.context");
  files.json = R"([{"task": "a", "index": 0, "answers": ["x", "y", "z"]}])";
  files.refused("a.0.question.2");
  files.json = R"([{"task": "a", "index": 0, "answers": []}])";
  files.refused("no answers");
  files.json = R"([{"task": "a", "index": 0, "answers": ["x"]}])";
  files.tensors["a.0.context"] = ids_image({5, 4096});
  files.refused("has the id 4096");
  files.tensors["a.0.context"] = ids_image({-1});
  files.refused("has the id -1");
  files.tensors["a.0.context"] = {"F32", {1}, std::string(4, '\0')};
  files.refused("expected a list of I32 or I64");
  EXPECT_THROW((void)samples_of("ids", {}), InvalidArgument) << "no file";
}

TEST(Ids, ReadThePublishedSetWhereItIsPresent) {
  const fs::path file = fs::path(PIKV_SHARED_DIR) / "reference/kvpress/evalset_dev.safetensors";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is absent";
  const auto samples = samples_of("ids", {.num_samples = 0, .file = file});
  std::map<std::string, int> num_in_group;
  for (const Sample& sample : samples) {
    ++num_in_group[sample.group];
    const std::string context = text_of(sample.context);
    EXPECT_EQ(sample.questions.size(), sample.group == "niah4" ? 4u : 1u);
    for (const Question& question : sample.questions) {
      EXPECT_NE(context.find(question.answers.front()), std::string::npos) << sample.id;
    }
  }
  EXPECT_EQ(num_in_group,
            (std::map<std::string, int>{{"niah1", 12}, {"niah4", 6}, {"passkey", 12}}));
  EXPECT_EQ(samples_of("ids", {.num_samples = 2, .file = file}).size(), 6u);
}

std::vector<Sample> read_lines(std::string_view lines, TaskOptions options = {},
                               const std::string& task = "task_file") {
  const TempFolder folder;
  options.file = folder.write("lines.jsonl", lines);
  return samples_of(task, options);
}

TEST(TaskFile, ReadsLongBenchByTheRulesOfItsDataset) {
  const auto samples = read_lines(
      R"({"_id": "q1", "dataset": "trec", "context": "Some text.", "input": "Type:", "answers": ["City"], "all_classes": ["City", "Food"], "length": 3})"
      "\n \r\n"
      R"({"dataset": "qasper_e", "context": "Ten.", "input": "How many?", "answers": ["ten", 10]})");
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].id, "q1");
  EXPECT_EQ(samples[0].group, "trec");
  const Question& trec = samples[0].questions.front();
  EXPECT_EQ(trec.metric, Metric::kClassification);
  EXPECT_EQ(trec.max_tokens, 64);
  EXPECT_EQ(score(trec, " City\nType: Food"), 1);
  const Question& qasper = samples[1].questions.front();
  EXPECT_EQ(samples[1].id, "qasper_e.0");
  EXPECT_EQ(text_of(qasper.tokens), "\n\nQuestion: How many?\nAnswer:");
  EXPECT_EQ(qasper.answers, (std::vector<std::string>{"ten", "10"}));
  EXPECT_EQ(score(qasper, "The ten."), 1);
}

TEST(TaskFile, ReadsTurnsAndQueries) {
  const auto samples = read_lines(
      R"({"id": 7, "context": "C", "multi_turns": [{"input": "q?", "answer": "a"}, {"input": "r?", "answer": ["b", 3]}]})"
      "\n"
      R"({"context": "C", "queries": ["q?", "r?"], "answers": ["a", ["b", "c"]], "max_tokens": 9})");
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].id, "7");
  for (const Sample& sample : samples) {
    ASSERT_EQ(sample.questions.size(), 2u);
    EXPECT_EQ(text_of(sample.questions[0].tokens), "\nq?\n");
    EXPECT_EQ(sample.questions[1].answers.size(), 2u);
  }
  EXPECT_EQ(samples[0].questions[0].max_tokens, 96);
  EXPECT_EQ(samples[1].questions[0].max_tokens, 9);
}

TEST(TaskFile, KeepsTheTwoHalvesOfALongContext) {
  const std::string line =
      R"({"context": "one two three four five six seven", "input": "?", "answers": "x"})";
  const auto whole = read_lines(line).front().context;
  for (const std::int64_t max : {2, 3, 4}) {
    const auto cut = read_lines(line, {.max_context = max}).front().context;
    ASSERT_EQ(cut.size(), static_cast<std::size_t>(max));
    EXPECT_EQ(cut.front(), whole.front());
    EXPECT_EQ(cut.back(), whole.back());
  }
  EXPECT_EQ(read_lines(line, {.max_context = 1000}).front().context, whole);
  EXPECT_THROW((void)read_lines(line, {.max_context = 1}), InvalidArgument);
}

TEST(TaskFile, TakesTheMetricOfTheUser) {
  const std::string line = R"({"dataset": "my own", "context": "C", "input": "?", "answers": "x"})";
  EXPECT_EQ(read_lines(line, {.metric = Metric::kF1}).front().questions[0].metric, Metric::kF1);
  expect_bad_file([&] { (void)read_lines(line); }, "line 1", "has no metric of its own");
  expect_bad_file([&] { (void)read_lines(line, {.metric = Metric::kClassification}); }, "line 1",
                  "'all_classes' is missing");
}

TEST(TaskFile, NamesTheLineThatIsWrong) {
  const auto refused = [](const std::string& line, std::string_view reason) {
    const std::string good = R"({"context": "C", "input": "?", "answers": "x"})";
    expect_bad_file([&] { (void)read_lines(good + "\n" + line); }, "lines.jsonl: line 2", reason);
  };
  refused("[]", "not a JSON object");
  refused("{\"context\": \"\xff\"}", "not a JSON object");
  refused(R"({"input": "?", "answers": "x"})", "'context' is missing");
  refused(R"({"context": "", "input": "?", "answers": "x"})", "'context' is empty");
  refused(R"({"context": "C", "input": "?"})", "no answers");
  refused(R"({"context": "C", "input": "?", "answers": [[]]})", "'answers'");
  refused(R"({"context": "C", "queries": ["?"], "answers": []})", "not lists of one length");
  refused(R"({"context": "C", "queries": [], "answers": []})", "no questions");
  refused(R"({"context": "C", "multi_turns": [{"input": "?"}]})", "without input or answer");
  refused(R"({"context": "C", "multi_turns": {}})", "not a list");
  refused(R"({"context": "C", "input": "?", "answers": "x", "max_tokens": 0})", "below 1");
  refused(R"({"context": "C", "input": "?", "answers": "x", "id": {}})", "key 'id'");
  expect_bad_file([] { (void)read_lines("\n \n"); }, "lines.jsonl", "no samples");
  EXPECT_THROW((void)samples_of("task_file", {}), InvalidArgument) << "no file";
  EXPECT_THROW((void)read_lines("{\"id\": 1, \"context\": \"C\", \"answers\": \"x\"}\n"
                                "{\"id\": 1, \"context\": \"C\", \"answers\": \"x\"}"),
               InvalidArgument)
      << "two samples of one id";
}

TEST(Datasets, HoldTheInputOrNothingBetweenBraces) {
  for (const Dataset& dataset : datasets()) {
    EXPECT_EQ(find_dataset(dataset.name), &dataset);
    EXPECT_GT(dataset.max_tokens, 0);
    EXPECT_LE(std::ranges::count(dataset.question, '{'), 1) << dataset.name;
  }
  EXPECT_EQ(find_dataset("no such set"), nullptr);
}

TEST(LongEval, CutsAPublishedPromptAtItsQuestion) {
  const std::string line =
      R"({"random_idx": ["torpid-kid", 1], "expected_number": 2416, "prompt": "Record:\n\nline torpid-kid: REGISTER_CONTENT is <2416>\n\nNow the record is over. Tell me what is the <REGISTER_CONTENT> in line torpid-kid? I need the number. "})";
  const auto samples = read_lines(line, {}, "longeval");
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_TRUE(text_of(samples[0].context).ends_with("<2416>\n"));
  EXPECT_TRUE(text_of(samples[0].questions[0].tokens).starts_with("\nNow the record is over."));
  EXPECT_EQ(samples[0].questions[0].answers.front(), "2416");
  const auto cued = read_lines(line, {}, "longeval:cue=line");
  EXPECT_TRUE(
      text_of(cued[0].questions[0].tokens).ends_with("\nline torpid-kid: REGISTER_CONTENT is <"));
  expect_bad_file(
      [] { (void)read_lines(R"({"prompt": "x", "expected_number": 1})", {}, "longeval"); },
      "line 1", "no record and question");
}

TEST(LongEval, ReadsThePublishedLinesWhereTheyArePresent) {
  const fs::path file = fs::path(PIKV_SHARED_DIR) / "eval/longeval_lines/200_lines.jsonl";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is absent";
  const auto samples = samples_of("longeval", {.num_samples = 3, .file = file});
  ASSERT_EQ(samples.size(), 3u);
  for (const Sample& sample : samples) {
    EXPECT_NE(text_of(sample.context).find("<" + sample.questions[0].answers[0] + ">"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace pikv::launch
