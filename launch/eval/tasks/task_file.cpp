// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A file of JSON lines that the user brings, each with "context" and one of
//   "input", "answers", and perhaps "dataset", "all_classes", "_id": LongBench (2308.14508);
//   "multi_turns", a list of {"input", "answer"}: SCBench (2412.10319);
//   "queries" and "answers", lists of equal length: one answer, or a list of references, a query.
// All may have "id" and "max_tokens". A "dataset" of LongBench brings its metric, its number of
// tokens and the words of its question; otherwise a question is a line of its own, and an answer is
// right when the output contains it.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "kernels/common/error.hpp"
#include "launch/eval/cells.hpp"
#include "launch/eval/datasets.hpp"
#include "launch/eval/json_lines.hpp"
#include "launch/eval/tasks/makers.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::json;

// As SCBench and KVzip generate where a set states nothing else.
constexpr Dataset kPlain = {.name = "task_file",
                            .metric = Metric::kContains,
                            .max_tokens = 96,
                            .first_line_only = false,
                            .question = "\n{}\n"};

/// The first and the last half, as LongBench cuts what is longer than the model.
std::vector<TokenId> without_middle(std::vector<TokenId> tokens, std::int64_t max_tokens) {
  const auto size = static_cast<std::int64_t>(tokens.size());
  if (size <= max_tokens) return tokens;
  const std::int64_t num_first = max_tokens / 2;
  tokens.erase(tokens.begin() + num_first, tokens.end() - (max_tokens - num_first));
  return tokens;
}

/// A line of the file while it becomes a sample.
class Reader {
 public:
  Reader(const Tokenizer& tokenizer, const TaskOptions& options, const JsonObject& line)
      : tokenizer_(tokenizer), options_(options), line_(line), dataset_(kPlain) {
    if (const auto name = line.optional_string({"dataset"})) {
      const Dataset* found = find_dataset(*name);
      group_ = *name;
      if (found != nullptr) {
        dataset_ = *found;
      } else if (!options.metric) {
        line.fail(fmt::format("dataset '{}' has no metric of its own; give one", *name));
      }
    }
    dataset_.metric = options.metric.value_or(dataset_.metric);
    dataset_.max_tokens = line.optional_integer({"max_tokens"}).value_or(dataset_.max_tokens);
    if (dataset_.max_tokens < 1) line.fail("key 'max_tokens' is below 1");
  }

  [[nodiscard]] const std::string& group() const { return group_; }

  [[nodiscard]] Sample read(std::string default_id) const {
    std::vector<TokenId> context = tokenizer_.encode(line_.string({"context"}));
    if (context.empty()) line_.fail("key 'context' is empty");
    if (options_.max_context) context = without_middle(std::move(context), *options_.max_context);
    Sample sample{.id = id(std::move(default_id)),
                  .group = group_,
                  .context = std::move(context),
                  .questions = read_questions()};
    if (sample.questions.empty()) line_.fail("no questions");
    return sample;
  }

 private:
  [[nodiscard]] std::string id(std::string default_id) const {
    for (const std::string_view key : {"id", "_id"}) {
      const Json* value = line_.member(key);
      if (value == nullptr) continue;
      if (auto text = text_of(*value)) return *std::move(text);
      line_.fail(fmt::format("key '{}' is not a string or a number", key));
    }
    return default_id;
  }

  [[nodiscard]] std::vector<Question> read_questions() const {
    if (line_.member("multi_turns") != nullptr) return read_turns(*line_.member("multi_turns"));
    if (line_.member("queries") != nullptr) return read_queries();
    return {make(line_.optional_string({"input"}).value_or(""), texts_of(line_, "answers"))};
  }

  [[nodiscard]] std::vector<Question> read_turns(const Json& turns) const {
    std::vector<Question> questions;
    if (!turns.is_array()) line_.fail("key 'multi_turns' is not a list");
    for (const Json& turn : turns) {
      if (!turn.is_object()) line_.fail("key 'multi_turns' has an item that is no object");
      if (!turn.contains("input") || !turn.contains("answer")) {
        line_.fail("key 'multi_turns' has an item without input or answer");
      }
      questions.push_back(make(text(turn["input"]), references(turn["answer"])));
    }
    return questions;
  }

  [[nodiscard]] std::vector<Question> read_queries() const {
    const std::vector<std::string> queries = texts_of(line_, "queries");
    const Json* answers = line_.member("answers");
    if (answers == nullptr || !answers->is_array() || answers->size() != queries.size()) {
      line_.fail("'queries' and 'answers' are not lists of one length");
    }
    std::vector<Question> questions;
    for (std::size_t i = 0; i < queries.size(); ++i) {
      questions.push_back(make(queries[i], references((*answers)[i])));
    }
    return questions;
  }

  [[nodiscard]] std::string text(const Json& value) const {
    auto result = text_of(value);
    if (!result) line_.fail("a question or answer is not a string");
    return *std::move(result);
  }

  [[nodiscard]] std::vector<std::string> references(const Json& value) const {
    if (!value.is_array()) return {text(value)};
    std::vector<std::string> result;
    for (const Json& item : value) result.push_back(text(item));
    return result;
  }

  [[nodiscard]] Question make(const std::string& input, std::vector<std::string> answers) const {
    if (answers.empty()) line_.fail("a question has no answers");
    Question question{.tokens = encode_continuation(
                          tokenizer_, fmt::format(fmt::runtime(dataset_.question), input)),
                      .answers = std::move(answers),
                      .max_tokens = dataset_.max_tokens,
                      .metric = dataset_.metric,
                      .classes = texts_of(line_, "all_classes"),
                      .first_line_only = dataset_.first_line_only};
    if (question.tokens.empty()) line_.fail("a question is empty");
    if (question.metric == Metric::kClassification && question.classes.empty()) {
      line_.fail("key 'all_classes' is missing");
    }
    return question;
  }

  const Tokenizer& tokenizer_;
  const TaskOptions& options_;
  const JsonObject& line_;
  Dataset dataset_;
  std::string group_ = std::string(kPlain.name);
};

class TaskFile final : public Task {
 public:
  [[nodiscard]] std::string_view name() const override { return kPlain.name; }
  [[nodiscard]] Metric metric() const override { return kPlain.metric; }

 private:
  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    require(options.file.has_value(), "task_file", "it reads a file, and none is given");
    std::vector<Sample> samples;
    std::map<std::string, std::int64_t> num_in_group;
    for_each_json_line(*options.file, [&](const JsonObject& line) {
      const Reader reader(tokenizer, options, line);
      const std::int64_t number = num_in_group[reader.group()]++;
      if (options.num_samples > 0 && number >= options.num_samples) return;
      samples.push_back(reader.read(fmt::format("{}.{}", reader.group(), number)));
    });
    return samples;
  }
};

}  // namespace

std::unique_ptr<const Task> make_task_file(PolicyOptions options) {
  options.finish();
  return std::make_unique<TaskFile>();
}

}  // namespace pikv::launch
