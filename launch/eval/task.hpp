// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A task of the evaluation: long contexts, questions about them, and the right answers. A context
// comes without its question, so that a cache can be compressed before the question is known (the
// query-agnostic setting of KVzip, Kim et al. 2025, 2505.23416) or after it.
//
// Generated samples are functions of the seed, the options and the tokenizer: the same on every
// machine and rank, and a sample does not depend on which others are asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.hpp"
#include "core/io/tokenizer/tokenizer.hpp"
#include "launch/eval/measure.hpp"
#include "launch/eval/metrics.hpp"

namespace pikv::launch {

struct Question {
  std::vector<TokenId> tokens;       // follow the context; the last of them asks for the answer
  std::vector<std::string> answers;  // the references, at least one but with a continuation
  std::int64_t max_tokens = 0;       // to generate, at least 1
  Metric metric = Metric::kContains;
  std::vector<std::string> classes = {};   // kClassification: the names to choose from
  bool first_line_only = false;            // what follows the first line of the output is no answer
  std::vector<TokenId> continuation = {};  // judged as they are; nothing is generated
};

struct Sample {
  std::string id;     // distinct within the task
  std::string group;  // results are given for each group; the task's name unless a file says other
  std::vector<TokenId> context;
  std::vector<Question> questions;  // independent of each other; at least one
  std::int64_t length = 0;          // the tokens asked for; 0 where a file decides
  double depth = -1;  // where the answer of the first question stands, 0 to 1; -1 where a file
                      // decides or the answer has many places
};

struct TaskOptions {
  std::uint64_t seed = 0;
  /// Generated tasks: samples of each length and depth. Files: at most so many of each group; 0 is
  /// all of them.
  std::int64_t num_samples = 8;
  std::vector<std::int64_t> lengths = {1024};  // of generated contexts, in tokens
  std::vector<double> depths = {};             // fractions; none: each sample draws its own
  /// UTF-8 text that hides the needles, books separated by a line with one NUL; none: five
  /// sentences repeated.
  std::optional<std::filesystem::path> text_file = std::nullopt;
  std::optional<std::filesystem::path> file = std::nullopt;  // of the tasks that read one
  /// Files of text: longer contexts keep their first and last halves (LongBench).
  std::optional<std::int64_t> max_context = std::nullopt;
  std::optional<Metric> metric = std::nullopt;            // instead of the file's own
  std::optional<std::int64_t> max_tokens = std::nullopt;  // instead of the task's own
};

class Task {
 public:
  virtual ~Task() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual Measure measure() const { return Measure::kScore; }
  /// Of the questions that name no other.
  [[nodiscard]] virtual Metric metric() const = 0;

  /// At least one sample. Throws InvalidArgument for options outside their ranges, a missing file
  /// option, or a length that cannot hold the task; BadFile for a file that is not what it should
  /// be.
  [[nodiscard]] std::vector<Sample> samples(const Tokenizer& tokenizer,
                                            const TaskOptions& options) const;

 private:
  [[nodiscard]] virtual std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                                       const TaskOptions& options) const = 0;
};

/// The score of an output by the question's own metric.
[[nodiscard]] double score(const Question& question, std::string_view output);

}  // namespace pikv::launch
