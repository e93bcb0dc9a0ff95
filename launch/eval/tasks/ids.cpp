// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Samples that are token ids already, so that two programs see the same input. Two files side by
// side: NAME.safetensors with the tensors "TASK.INDEX.context" [T] and "TASK.INDEX.question.J" [T]
// of I32 or I64, and NAME.json, a list of {"task", "index", "answers"}, where answer J belongs to
// question J. The groups of the samples are the TASKs.
//
// Generates the tokens of the answer and one more, as the published runs do.
#include <fmt/format.h>

#include <cstring>
#include <map>

#include "core/io/one_line.hpp"
#include "core/io/safetensors.hpp"
#include "kernels/common/error.hpp"
#include "launch/eval/cells.hpp"
#include "launch/eval/json_lines.hpp"
#include "launch/eval/tasks/makers.hpp"

namespace pikv::launch {
namespace {

template <class Integer>
std::vector<std::int64_t> widen(std::span<const std::byte> bytes) {
  std::vector<std::int64_t> result;
  for (; !bytes.empty(); bytes = bytes.subspan(sizeof(Integer))) {
    Integer value;
    std::memcpy(&value, bytes.data(), sizeof value);
    result.push_back(value);
  }
  return result;
}

std::vector<TokenId> read_ids(const SafetensorsFile& file, const std::string& name,
                              std::size_t vocab_size) {
  const StoredTensor& tensor = file.tensor(name);
  const auto fail = [&](const std::string& what) {
    throw BadFile(one_line(fmt::format("{}: tensor '{}' {}", file.path().string(), name, what)));
  };
  const bool is_short = tensor.dtype == "I32";
  if (tensor.shape.size() != 1 || tensor.size() == 0 || !(is_short || tensor.dtype == "I64")) {
    fail(fmt::format("is {}, expected a list of I32 or I64", tensor.describe()));
  }
  std::vector<TokenId> ids;
  for (const std::int64_t id :
       is_short ? widen<std::int32_t>(tensor.bytes) : widen<std::int64_t>(tensor.bytes)) {
    if (id < 0 || static_cast<std::size_t>(id) >= vocab_size) {
      fail(fmt::format("has the id {}, outside the {} of the tokenizer", id, vocab_size));
    }
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

class Ids final : public Task {
 public:
  [[nodiscard]] std::string_view name() const override { return "ids"; }
  [[nodiscard]] Metric metric() const override { return Metric::kContains; }

 private:
  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    require(options.file.has_value(), "ids", "it reads a file, and none is given");
    std::filesystem::path tensors = *options.file;
    std::filesystem::path answers = tensors;
    const SafetensorsFile file(tensors.replace_extension(".safetensors"));
    std::vector<Sample> samples;
    std::map<std::string, std::int64_t> num_in_group;
    for (const JsonObject& object : read_json_list(answers.replace_extension(".json"))) {
      const std::string group = object.string({"task"});
      if (options.num_samples > 0 && num_in_group[group]++ >= options.num_samples) continue;
      const std::string id = fmt::format("{}.{}", group, object.integer({"index"}, 0, INT64_MAX));
      Sample sample{.id = id,
                    .group = group,
                    .context = read_ids(file, id + ".context", tokenizer.vocab_size()),
                    .questions = {}};
      for (const std::string& answer : object.strings("answers")) {
        sample.questions.push_back(
            {.tokens = read_ids(file, fmt::format("{}.question.{}", id, sample.questions.size()),
                                tokenizer.vocab_size()),
             .answers = {answer},
             .max_tokens =
                 static_cast<std::int64_t>(encode_continuation(tokenizer, answer).size()) + 1,
             .metric = options.metric.value_or(metric())});
      }
      if (sample.questions.empty()) object.fail("key 'answers' has no answers");
      samples.push_back(std::move(sample));
    }
    return samples;
  }
};

}  // namespace

std::unique_ptr<const Task> make_ids(PolicyOptions options) {
  options.finish();
  return std::make_unique<Ids>();
}

}  // namespace pikv::launch
