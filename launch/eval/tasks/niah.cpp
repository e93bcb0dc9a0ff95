// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Needles in a haystack, in the words of RULER (Hsieh et al. 2024, 2404.06654): one needle is its
// niah_single, several its niah_multikey. Each query is a question of its own, where RULER's
// niah_multiquery asks for all in one. Where the depth is asked for, the needle of the first
// question stands there; the others stand anywhere.
#include <fmt/format.h>

#include <optional>

#include "kernels/common/error.hpp"
#include "launch/eval/cells.hpp"
#include "launch/eval/haystack.hpp"
#include "launch/eval/key_words.hpp"
#include "launch/eval/tasks/makers.hpp"
#include "launch/eval/tasks/needle_text.hpp"

namespace pikv::launch {
namespace {

class Niah final : public Task {
 public:
  Niah(std::int64_t num_keys, std::int64_t num_queries)
      : num_keys_(num_keys), num_queries_(num_queries) {}

  [[nodiscard]] std::string_view name() const override { return "niah"; }
  [[nodiscard]] Metric metric() const override { return Metric::kContains; }

 private:
  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    const Haystack haystack =
        options.text_file ? Haystack::from_file(*options.text_file) : Haystack::sentences();
    std::vector<Sample> samples;
    const std::string spec = fmt::format("niah:keys={},queries={}", num_keys_, num_queries_);
    for (const Cell& cell : cells(spec, options)) {
      samples.push_back(make_sample(tokenizer, haystack, cell, options.text_file.has_value()));
    }
    return samples;
  }

  [[nodiscard]] Sample make_sample(const Tokenizer& tokenizer, const Haystack& haystack,
                                   const Cell& cell, bool is_text) const {
    const std::vector<std::string> keys = draw_key_words(cell.draw("keys"), num_keys_);
    Draw value_draw = cell.draw("values");
    Draw depth_draw = cell.draw("other depths");
    std::vector<Needle> needles;
    std::vector<Question> questions;
    for (const std::string& key : keys) {
      const std::string value = value_draw.digits(needle_text::kValueDigits);
      needles.push_back({.text = needle_text::sentence(key, value),
                         .depth = needles.empty() ? cell.depth : depth_draw.fraction()});
      if (static_cast<std::int64_t>(questions.size()) < num_queries_) {
        questions.push_back(
            make_question(tokenizer, metric(), needle_text::question(key), {value}));
      }
    }
    const std::int64_t first = is_text ? cell.draw("text").below(haystack.num_words()) : 0;
    FittedContext context = fit_context(tokenizer, cell, 0, [&](std::int64_t num_words) {
      return std::string(needle_text::kHeader) + haystack.hide(first, num_words, needles);
    });
    return {.id = cell.id,
            .group = std::string(name()),
            .context = std::move(context.tokens),
            .questions = std::move(questions),
            .length = cell.length,
            .depth = cell.depth};
  }

  std::int64_t num_keys_;
  std::int64_t num_queries_;
};

}  // namespace

std::unique_ptr<const Task> make_niah(PolicyOptions options) {
  const std::int64_t num_keys = options.integer("keys", 1, 1, 256);
  const std::int64_t num_queries = options.integer("queries", 1, 1, 256);
  options.finish();
  require(num_queries <= num_keys, "niah", "queries = ", num_queries, " exceeds keys = ", num_keys);
  return std::make_unique<Niah>(num_keys, num_queries);
}

}  // namespace pikv::launch
