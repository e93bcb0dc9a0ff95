// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Variable tracking of RULER (Hsieh et al. 2024, 2404.06654): chains of assignments, scattered in
// order over the text; the question is which variables hold the value of one chain. A depth is
// without meaning here, so options.depths is not read.
// Deviations: names have two letters, RULER's have five; by default three hops, RULER's chains
// have four; no worked example in front.
#include <fmt/format.h>

#include <array>
#include <set>

#include "kernels/common/error.hpp"
#include "launch/eval/cells.hpp"
#include "launch/eval/haystack.hpp"
#include "launch/eval/tasks/makers.hpp"

namespace pikv::launch {
namespace {

constexpr std::string_view kHeader =
    "Memorize and track the chain of variable assignments hidden in the following text.\n";
constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
// A quarter of the names that two letters can spell.
constexpr std::int64_t kMaxVariables = 169;

struct Chain {
  std::string value;
  std::vector<std::string> variables;  // in the order of assignment
};

class VariableTracking final : public Task {
 public:
  VariableTracking(std::int64_t num_chains, std::int64_t num_hops, bool asks_all)
      : num_chains_(num_chains), num_hops_(num_hops), asks_all_(asks_all) {}

  [[nodiscard]] std::string_view name() const override { return "variable_tracking"; }
  [[nodiscard]] Metric metric() const override { return Metric::kContainsShare; }

 private:
  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    const Haystack haystack =
        options.text_file ? Haystack::from_file(*options.text_file) : Haystack::sentences();
    std::vector<Sample> samples;
    const std::string spec = fmt::format("variable_tracking:chains={},hops={},ask={}", num_chains_,
                                         num_hops_, asks_all_ ? "all" : "value");
    for (const Cell& cell : cells_without_depth(spec, options)) {
      const std::vector<Chain> chains = draw_chains(cell);
      const std::vector<Needle> needles = scatter(chains, cell.draw("depths"));
      const std::int64_t first =
          options.text_file ? cell.draw("text").below(haystack.num_words()) : 0;
      FittedContext context = fit_context(tokenizer, cell, 0, [&](std::int64_t num_words) {
        return std::string(kHeader) + haystack.hide(first, num_words, needles);
      });
      samples.push_back({.id = cell.id,
                         .group = std::string(name()),
                         .context = std::move(context.tokens),
                         .questions = {question(tokenizer, chains.front())},
                         .length = cell.length,
                         .depth = -1});
    }
    return samples;
  }

  [[nodiscard]] std::vector<Chain> draw_chains(const Cell& cell) const {
    Draw names = cell.draw("names");
    Draw values = cell.draw("values");
    std::set<std::string> used;
    const auto distinct = [&](auto&& draw) {
      std::string text = draw();
      while (!used.insert(text).second) text = draw();
      return text;
    };
    std::vector<Chain> chains(static_cast<std::size_t>(num_chains_));
    for (Chain& chain : chains) {
      chain.value = distinct([&] { return values.digits(5); });
      for (std::int64_t i = 0; i <= num_hops_; ++i) {
        chain.variables.push_back(distinct([&] { return names.characters(2, kLetters); }));
      }
    }
    return chains;
  }

  /// The assignments of each chain at ascending depths.
  [[nodiscard]] static std::vector<Needle> scatter(const std::vector<Chain>& chains, Draw draw) {
    std::vector<Needle> needles;
    for (const Chain& chain : chains) {
      std::multiset<double> depths;
      while (depths.size() < chain.variables.size()) depths.insert(draw.fraction());
      auto depth = depths.begin();
      std::string source = chain.value;
      for (const std::string& variable : chain.variables) {
        needles.push_back(
            {.text = fmt::format("VAR {} = {}.", variable, source), .depth = *depth++});
        source = "VAR " + variable;
      }
    }
    return needles;
  }

  [[nodiscard]] Question question(const Tokenizer& tokenizer, const Chain& chain) const {
    if (!asks_all_) {
      const std::string& variable = chain.variables.back();
      return make_question(
          tokenizer, metric(),
          fmt::format("\nQuestion: What is the value of VAR {0}? Answer: VAR {0} =", variable),
          {chain.value});
    }
    return make_question(tokenizer, metric(),
                         fmt::format("\nQuestion: Find all variables that are assigned the value "
                                     "{} in the text above. Answer:",
                                     chain.value),
                         chain.variables);
  }

  std::int64_t num_chains_;
  std::int64_t num_hops_;
  bool asks_all_;
};

}  // namespace

std::unique_ptr<const Task> make_variable_tracking(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kAsked = {"all", "value"};
  const std::int64_t num_chains = options.integer("chains", 1, 1, kMaxVariables);
  const std::int64_t num_hops = options.integer("hops", 3, 0, kMaxVariables - 1);
  const bool asks_all = options.choice("ask", "all", kAsked) == "all";
  options.finish();
  const std::int64_t num_variables = num_chains * (num_hops + 1);
  require(num_variables <= kMaxVariables, "variable_tracking", num_variables,
          " variables are more than ", kMaxVariables);
  return std::make_unique<VariableTracking>(num_chains, num_hops, asks_all);
}

}  // namespace pikv::launch
