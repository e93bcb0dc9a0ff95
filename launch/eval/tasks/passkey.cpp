// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The pass key of Mohtashami and Jaggi 2023 (2305.16300), as Quest (Tang et al. 2024, 2406.10774)
// and EasyKV (Ren and Zhu 2024, 2402.06262) place it. The key is five digits, of which the first
// may be 0, where Quest draws 1 to 50,000.
#include <fmt/format.h>

#include <array>

#include "launch/eval/cells.hpp"
#include "launch/eval/haystack.hpp"
#include "launch/eval/tasks/makers.hpp"

namespace pikv::launch {
namespace {

constexpr std::string_view kHeader =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I "
    "will quiz you about the important information there.\n";
constexpr std::string_view kQuestion = "\nWhat is the pass key? The pass key is";

/// Equal lines with the key's line among them.
std::string lines_with_key(std::int64_t num_lines, double depth, const std::string& key_line) {
  std::string text;
  const std::int64_t at = unit_at(depth, num_lines + 1);
  for (std::int64_t i = 0; i <= num_lines; ++i) {
    if (i > 0) text += '\n';
    text += i == at ? key_line : Haystack::sentence_line();
  }
  return text;
}

class Passkey final : public Task {
 public:
  explicit Passkey(bool in_lines) : in_lines_(in_lines) {}

  [[nodiscard]] std::string_view name() const override { return "passkey"; }
  [[nodiscard]] Metric metric() const override { return Metric::kContains; }

 private:
  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    const Haystack haystack = Haystack::sentences();
    std::vector<Sample> samples;
    for (const Cell& cell : cells(in_lines_ ? "passkey:easykv" : "passkey", options)) {
      const std::string key = cell.draw("key").digits(5);
      const std::string sentence =
          fmt::format("The pass key is {0}. Remember it. {0} is the pass key.", key);
      FittedContext context = fit_context(tokenizer, cell, 0, [&](std::int64_t num_units) {
        return std::string(kHeader) +
               (in_lines_ ? lines_with_key(num_units, cell.depth, sentence)
                          : haystack.hide(0, num_units, {{.text = sentence, .depth = cell.depth}}));
      });
      samples.push_back({.id = cell.id,
                         .group = std::string(name()),
                         .context = std::move(context.tokens),
                         .questions = {make_question(tokenizer, metric(), kQuestion, {key})},
                         .length = cell.length,
                         .depth = cell.depth});
    }
    return samples;
  }

  bool in_lines_;
};

}  // namespace

std::unique_ptr<const Task> make_passkey(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kStyles = {"quest", "easykv"};
  const bool in_lines = options.choice("style", "quest", kStyles) == "easykv";
  options.finish();
  return std::make_unique<Passkey>(in_lines);
}

}  // namespace pikv::launch
