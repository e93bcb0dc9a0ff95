// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One value out of lines that all look alike, so that nothing but the question tells which line
// matters. Style hex is the key-value retrieval of SCBench (Li et al. 2024, 2412.10319) as plain
// lines instead of JSON; style needles is RULER's niah_multikey_2 (2404.06654), whose haystack is
// made of needles. The line of the first question stands at the depth; the others anywhere.
#include <fmt/format.h>

#include <array>
#include <set>

#include "launch/eval/cells.hpp"
#include "launch/eval/key_words.hpp"
#include "launch/eval/tasks/makers.hpp"
#include "launch/eval/tasks/needle_text.hpp"

namespace pikv::launch {
namespace {

constexpr std::string_view kHexHeader =
    "Extract the value corresponding to the specified key in the data below.\n";
constexpr std::string_view kHexDigits = "0123456789abcdef";
// Long enough that 32 thousand lines have no pair of equal keys to speak of.
constexpr int kHexLength = 8;
// Up to this context the needles, of at least 15 tokens, are named by one word, in longer ones by
// two: the names of one context look alike. The model in models/tiny-moe, at 1,500 tokens with its
// full cache, finds 30 of 32 needles named by one word, and 8 of 16 named by two.
constexpr std::int64_t kSingleWordLength = 4096;

class KvRetrieval final : public Task {
 public:
  KvRetrieval(bool is_hex, std::int64_t num_queries) : is_hex_(is_hex), num_queries_(num_queries) {}

  [[nodiscard]] std::string_view name() const override { return "kv_retrieval"; }
  [[nodiscard]] Metric metric() const override { return Metric::kContains; }

 private:
  struct Pair {
    std::string key;
    std::string value;
  };

  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    std::vector<Sample> samples;
    const std::string spec =
        fmt::format("kv_retrieval:style={},queries={}", is_hex_ ? "hex" : "needles", num_queries_);
    for (const Cell& cell : cells(spec, options)) samples.push_back(make_sample(tokenizer, cell));
    return samples;
  }

  [[nodiscard]] Sample make_sample(const Tokenizer& tokenizer, const Cell& cell) const {
    Draw draw = cell.draw("pairs");
    std::vector<Pair> pairs;
    std::set<std::string> keys;
    const FittedContext context =
        fit_context(tokenizer, cell, num_queries_, [&](std::int64_t num_pairs) {
          while (pairs.size() < static_cast<std::size_t>(num_pairs)) {
            Pair pair = draw_pair(draw, cell.length, pairs.size());
            if (keys.insert(pair.key).second) pairs.push_back(std::move(pair));
          }
          std::string text(is_hex_ ? kHexHeader : needle_text::kHeader);
          for (std::int64_t i = 0; i < num_pairs; ++i) {
            if (i > 0) text += '\n';
            text += line(pairs[static_cast<std::size_t>(i)]);
          }
          return text;
        });
    Sample sample{.id = cell.id,
                  .group = std::string(name()),
                  .context = context.tokens,
                  .questions = {},
                  .length = cell.length,
                  .depth = cell.depth};
    for (const std::int64_t i :
         distinct_below(cell.draw("queries"), unit_at(cell.depth, context.num_units), num_queries_,
                        context.num_units)) {
      const Pair& pair = pairs[static_cast<std::size_t>(i)];
      sample.questions.push_back(
          make_question(tokenizer, metric(), question(pair.key), {pair.value}));
    }
    return sample;
  }

  [[nodiscard]] Pair draw_pair(Draw& draw, std::int64_t length, std::size_t num_used) const {
    if (is_hex_) {
      std::string key = draw.characters(kHexLength, kHexDigits);
      return {.key = std::move(key), .value = draw.characters(kHexLength, kHexDigits)};
    }
    std::string key =
        length <= kSingleWordLength ? draw_short_name(draw, num_used) : draw_name(draw, num_used);
    return {.key = std::move(key), .value = draw.digits(needle_text::kValueDigits)};
  }

  [[nodiscard]] std::string line(const Pair& pair) const {
    return is_hex_ ? fmt::format("{}: {}", pair.key, pair.value)
                   : needle_text::sentence(pair.key, pair.value);
  }

  [[nodiscard]] std::string question(const std::string& key) const {
    return is_hex_ ? fmt::format("\nKey {} value", key) : needle_text::question(key);
  }

  bool is_hex_;
  std::int64_t num_queries_;
};

}  // namespace

std::unique_ptr<const Task> make_kv_retrieval(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kStyles = {"hex", "needles"};
  const bool is_hex = options.choice("style", "hex", kStyles) == "hex";
  const std::int64_t num_queries = options.integer("queries", 1, 1, 1 << 16);
  options.finish();
  return std::make_unique<KvRetrieval>(is_hex, num_queries);
}

}  // namespace pikv::launch
