// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Line retrieval of LongEval (Li et al. 2023, LongChat): lines with names and numbers, and the
// question for one of them. Generated, or from a file of its test cases (JSON lines with "prompt",
// "expected_number" and "random_idx"). Generated numbers have five digits, the published ones one
// to five, where a short one may be found by chance.
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "launch/eval/cells.hpp"
#include "launch/eval/json_lines.hpp"
#include "launch/eval/key_words.hpp"
#include "launch/eval/tasks/makers.hpp"

namespace pikv::launch {
namespace {

constexpr std::string_view kHeader =
    "Below is a record of lines I want you to remember. Each line begins with 'line <line index>' "
    "and contains a '<REGISTER_CONTENT>' at the end of the line as a numerical value. For each "
    "line index, memorize its corresponding <REGISTER_CONTENT>. At the end of the record, I will "
    "ask you to retrieve the corresponding <REGISTER_CONTENT> of a certain line index. Now the "
    "record start:\n\n";
// Where a published prompt is cut into context and question.
constexpr std::string_view kQuestionStart = "\nNow the record is over.";
// A chat model repeats the question before it answers.
constexpr std::int64_t kMaxTokens = 48;

std::string question_text(std::string_view name, bool has_cue) {
  std::string text =
      fmt::format("{} Tell me what is the <REGISTER_CONTENT> in line {}? I need the number. ",
                  kQuestionStart, name);
  if (has_cue) text += fmt::format("\nline {}: REGISTER_CONTENT is <", name);
  return text;
}

class LongEval final : public Task {
 public:
  LongEval(bool has_cue, std::int64_t num_queries) : has_cue_(has_cue), num_queries_(num_queries) {}

  [[nodiscard]] std::string_view name() const override { return "longeval"; }
  [[nodiscard]] Metric metric() const override { return Metric::kContains; }

 private:
  struct Line {
    std::string name;
    std::string number;
  };

  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    if (options.file) return read(tokenizer, options);
    std::vector<Sample> samples;
    const std::string spec =
        fmt::format("longeval:cue={},queries={}", has_cue_ ? "line" : "none", num_queries_);
    for (const Cell& cell : cells(spec, options)) samples.push_back(make_sample(tokenizer, cell));
    return samples;
  }

  [[nodiscard]] Question make_line_question(const Tokenizer& tokenizer, std::string_view text,
                                            std::string number) const {
    Question question = make_question(tokenizer, metric(), text, {std::move(number)});
    if (!has_cue_) question.max_tokens = kMaxTokens;
    return question;
  }

  [[nodiscard]] Sample make_sample(const Tokenizer& tokenizer, const Cell& cell) const {
    Draw draw = cell.draw("lines");
    std::vector<Line> lines;
    std::set<std::string> used;
    FittedContext context = fit_context(tokenizer, cell, num_queries_, [&](std::int64_t num_lines) {
      while (lines.size() < static_cast<std::size_t>(num_lines)) {
        Line line{.name = draw_name(draw, lines.size()),
                  .number = std::to_string(10'000 + draw.below(90'000))};
        if (used.insert(line.name).second) lines.push_back(std::move(line));
      }
      std::string text(kHeader);
      for (std::int64_t i = 0; i < num_lines; ++i) {
        const Line& line = lines[static_cast<std::size_t>(i)];
        text += fmt::format("line {}: REGISTER_CONTENT is <{}>\n", line.name, line.number);
      }
      return text;
    });
    Sample sample{.id = cell.id,
                  .group = std::string(name()),
                  .context = std::move(context.tokens),
                  .questions = {},
                  .length = cell.length,
                  .depth = cell.depth};
    for (const std::int64_t i :
         distinct_below(cell.draw("queries"), unit_at(cell.depth, context.num_units), num_queries_,
                        context.num_units)) {
      const Line& line = lines[static_cast<std::size_t>(i)];
      sample.questions.push_back(
          make_line_question(tokenizer, question_text(line.name, has_cue_), line.number));
    }
    return sample;
  }

  [[nodiscard]] std::vector<Sample> read(const Tokenizer& tokenizer,
                                         const TaskOptions& options) const {
    std::vector<Sample> samples;
    for_each_json_line(*options.file, [&](const JsonObject& object) {
      const bool is_enough = options.num_samples > 0 &&
                             static_cast<std::int64_t>(samples.size()) >= options.num_samples;
      if (is_enough) return;
      const std::string prompt = object.string({"prompt"});
      const std::size_t cut = prompt.rfind(kQuestionStart);
      if (cut == std::string::npos || cut == 0) {
        object.fail("the prompt has no record and question");
      }
      const std::int64_t number = object.integer({"expected_number"}, 0, INT64_MAX);
      std::string question = prompt.substr(cut);
      if (has_cue_) question += fmt::format("\nline {}: REGISTER_CONTENT is <", asked(object));
      samples.push_back(
          {.id = fmt::format("longeval.{}", samples.size()),
           .group = std::string(name()),
           .context = tokenizer.encode(prompt.substr(0, cut)),
           .questions = {make_line_question(tokenizer, question, std::to_string(number))}});
    });
    return samples;
  }

  /// The line asked for: "random_idx" is its name and its place.
  [[nodiscard]] static std::string asked(const JsonObject& object) {
    const nlohmann::json* index = object.member("random_idx");
    if (index == nullptr || !index->is_array() || index->empty() || !index->front().is_string()) {
      object.fail("key 'random_idx' is not a list that begins with a name");
    }
    return index->front().get<std::string>();
  }

  bool has_cue_;
  std::int64_t num_queries_;
};

}  // namespace

std::unique_ptr<const Task> make_longeval(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kCues = {"none", "line"};
  const bool has_cue = options.choice("cue", "none", kCues) == "line";
  const std::int64_t num_queries = options.integer("queries", 1, 1, 1 << 16);
  options.finish();
  return std::make_unique<LongEval>(has_cue, num_queries);
}

}  // namespace pikv::launch
