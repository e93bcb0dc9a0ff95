// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/task.hpp"

#include <fmt/format.h>

#include <set>

#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"
#include "launch/eval/answer_text.hpp"

namespace pikv::launch {
namespace {

void check(std::string_view task, const TaskOptions& options) {
  const auto fail = [&](const std::string& what) {
    throw InvalidArgument(fmt::format("{}: {}", task, what));
  };
  if (options.num_samples < 0)
    fail(fmt::format("{} samples are fewer than 0", options.num_samples));
  for (const std::int64_t length : options.lengths) {
    if (length < 1) fail(fmt::format("length {} is below 1", length));
  }
  for (const double depth : options.depths) {
    if (!(depth >= 0 && depth <= 1)) fail(fmt::format("depth {} is outside [0, 1]", depth));
  }
  if (options.max_context && *options.max_context < 2) {
    fail(fmt::format("a context of at most {} tokens has no two halves", *options.max_context));
  }
  if (options.max_tokens && *options.max_tokens < 1) {
    fail(fmt::format("{} tokens to generate are below 1", *options.max_tokens));
  }
}

void check_ids(std::string_view task, const std::vector<Sample>& samples) {
  std::set<std::string_view> ids;
  for (const Sample& sample : samples) {
    if (ids.insert(sample.id).second) continue;
    throw InvalidArgument(
        one_line(fmt::format("{}: two samples are called '{}'", task, sample.id)));
  }
}

}  // namespace

std::vector<Sample> Task::samples(const Tokenizer& tokenizer, const TaskOptions& options) const {
  check(name(), options);
  std::vector<Sample> samples = do_samples(tokenizer, options);
  if (samples.empty()) throw InvalidArgument(fmt::format("{}: no samples were asked for", name()));
  check_ids(name(), samples);
  if (options.max_tokens) {
    for (Sample& sample : samples) {
      for (Question& question : sample.questions) question.max_tokens = *options.max_tokens;
    }
  }
  return samples;
}

double score(const Question& question, std::string_view output) {
  return score(question.metric, question.first_line_only ? first_line(output) : output,
               question.answers, question.classes);
}

}  // namespace pikv::launch
