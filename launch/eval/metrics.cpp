// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/metrics.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>

#include "kernels/common/error.hpp"
#include "launch/eval/answer_text.hpp"

namespace pikv::launch {
namespace {

using Words = std::vector<std::u32string>;

struct NamedMetric {
  std::string_view name;
  Metric metric;
};

constexpr std::array kMetrics = {
    NamedMetric{"contains", Metric::kContains},
    NamedMetric{"contains_share", Metric::kContainsShare},
    NamedMetric{"exact", Metric::kExact},
    NamedMetric{"f1", Metric::kF1},
    NamedMetric{"rouge_l", Metric::kRougeL},
    NamedMetric{"edit", Metric::kEdit},
    NamedMetric{"classification", Metric::kClassification},
    NamedMetric{"number", Metric::kNumber},
};

double ratio(std::size_t part, std::size_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

/// 2 common / (both sizes): the harmonic mean of precision and recall.
double f_measure(std::size_t common, std::size_t size, std::size_t other_size) {
  return size + other_size == 0 ? 1.0 : ratio(2 * common, size + other_size);
}

/// The length of the longest common subsequence.
template <class Sequence>
std::size_t common_subsequence(const Sequence& a, const Sequence& b) {
  std::vector<std::size_t> row(b.size() + 1, 0);  // of the prefix of a, by prefix of b
  for (const auto& item : a) {
    std::size_t diagonal = 0;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t above = row[j + 1];
      row[j + 1] = item == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return row.back();
}

double f1(const Words& output, const Words& answer) {
  std::map<std::u32string_view, std::size_t> left;
  for (const auto& word : answer) ++left[word];
  std::size_t common = 0;
  for (const auto& word : output) {
    const auto found = left.find(word);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++common;
  }
  return f_measure(common, output.size(), answer.size());
}

template <class Sequence>
double subsequence_f(const Sequence& output, const Sequence& answer) {
  return f_measure(common_subsequence(output, answer), output.size(), answer.size());
}

bool contains(std::string_view output, std::string_view answer) {
  // Every text contains the empty one; only an empty output answers with it.
  return answer.empty() ? output.empty() : output.find(answer) != std::string_view::npos;
}

double classification(std::string_view output, std::string_view answer,
                      std::span<const std::string> classes) {
  std::size_t num_named = 0;
  bool is_right = false;
  for (const std::string& name : classes) {
    if (!contains(output, name)) continue;
    // A name within the right one, "letter" in "letter or card", was not meant.
    if (name != answer && contains(answer, name)) continue;
    ++num_named;
    is_right = is_right || name == answer;
  }
  return is_right ? ratio(1, num_named) : 0.0;
}

double number_share(std::string_view output, std::string_view answer) {
  const auto right = numbers_in(answer);
  const auto given = numbers_in(output);
  if (right.empty() || given.empty()) return 0.0;
  return ratio(static_cast<std::size_t>(std::ranges::count(given, right.back())), given.size());
}

double score_one(Metric metric, std::string_view output, std::string_view answer,
                 std::span<const std::string> classes) {
  switch (metric) {
    case Metric::kContains:
    case Metric::kContainsShare:
      return contains(output, answer) ? 1.0 : 0.0;
    case Metric::kExact:
      return squad_words(output) == squad_words(answer) ? 1.0 : 0.0;
    case Metric::kF1:
      return f1(squad_words(output), squad_words(answer));
    case Metric::kRougeL:
      return subsequence_f(plain_words(output), plain_words(answer));
    case Metric::kEdit:
      return subsequence_f(code_points(first_code_line(output)), code_points(answer));
    case Metric::kClassification:
      return classification(output, answer, classes);
    case Metric::kNumber:
      return number_share(output, answer);
  }
  throw InvalidArgument("score: unknown metric");
}

}  // namespace

std::string_view name(Metric metric) {
  return std::ranges::find(kMetrics, metric, &NamedMetric::metric)->name;
}

Metric parse_metric(std::string_view name) {
  const auto found = std::ranges::find(kMetrics, name, &NamedMetric::name);
  if (found != kMetrics.end()) return found->metric;
  std::vector<std::string_view> known;
  for (const NamedMetric& row : kMetrics) known.push_back(row.name);
  throw InvalidArgument(
      fmt::format("unknown metric '{}' (known: {})", name, fmt::join(known, ", ")));
}

double score(Metric metric, std::string_view output, std::span<const std::string> answers,
             std::span<const std::string> classes) {
  require(!answers.empty(), "score", "there is no answer to compare with");
  require(metric != Metric::kClassification || !classes.empty(), "score",
          "there are no classes to choose from");
  double best = 0.0;
  double sum = 0.0;
  for (const std::string& answer : answers) {
    const double value = score_one(metric, output, answer, classes);
    best = std::max(best, value);
    sum += value;
  }
  return metric == Metric::kContainsShare ? sum / static_cast<double>(answers.size()) : best;
}

}  // namespace pikv::launch
