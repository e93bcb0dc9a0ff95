// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/cells.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

// Beside the answer, an output may have a space in front and a full stop behind it.
constexpr std::int64_t kTokensAroundAnswer = 2;

void append_cells(std::vector<Cell>& cells, std::string_view prefix, std::int64_t length,
                  std::optional<double> depth, const TaskOptions& options) {
  for (std::int64_t i = 0; i < options.num_samples; ++i) {
    Cell cell{.id = fmt::format("{}.{}", prefix, i),
              .length = length,
              .depth = depth.value_or(0),
              .seed = options.seed};
    if (!depth) cell.depth = cell.draw("depth").fraction();
    cells.push_back(std::move(cell));
  }
}

}  // namespace

Draw Cell::draw(std::string_view purpose) const {
  return {seed, fmt::format("{}/{}", id, purpose)};
}

std::vector<Cell> cells(std::string_view spec, const TaskOptions& options) {
  if (options.depths.empty()) return cells_without_depth(spec, options);
  std::vector<Cell> result;
  for (const std::int64_t length : options.lengths) {
    for (const double depth : options.depths) {
      append_cells(result, fmt::format("{}.{}.d{:g}", spec, length, 100 * depth), length, depth,
                   options);
    }
  }
  return result;
}

std::vector<Cell> cells_without_depth(std::string_view spec, const TaskOptions& options) {
  std::vector<Cell> result;
  for (const std::int64_t length : options.lengths) {
    append_cells(result, fmt::format("{}.{}", spec, length), length, std::nullopt, options);
  }
  return result;
}

FittedContext fit_context(const Tokenizer& tokenizer, const Cell& cell, std::int64_t min_units,
                          const std::function<std::string(std::int64_t)>& build) {
  FittedContext best;
  std::size_t num_tokens = 0;
  const auto fits = [&](std::int64_t num_units) {
    std::string text = build(num_units);
    std::vector<TokenId> tokens = tokenizer.encode(text);
    num_tokens = tokens.size();
    if (num_tokens > static_cast<std::size_t>(cell.length)) return false;
    best = {.num_units = num_units, .text = std::move(text), .tokens = std::move(tokens)};
    return true;
  };
  if (!fits(min_units)) {
    throw InvalidArgument(fmt::format("{}: a context of {} tokens cannot hold it (at least {})",
                                      cell.id, cell.length, num_tokens));
  }
  std::int64_t low = min_units;  // fits
  std::int64_t step = 1;
  while (fits(low + step)) {
    low += step;
    step *= 2;
  }
  std::int64_t high = low + step;  // does not fit
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return best;
}

Question make_question(const Tokenizer& tokenizer, Metric metric, std::string_view text,
                       std::vector<std::string> answers) {
  const std::string in_one_line = fmt::format(" {}", fmt::join(answers, " "));
  const auto num_tokens =
      static_cast<std::int64_t>(encode_continuation(tokenizer, in_one_line).size());
  return {.tokens = encode_continuation(tokenizer, text),
          .answers = std::move(answers),
          .max_tokens = num_tokens + kTokensAroundAnswer,
          .metric = metric};
}

std::vector<TokenId> encode_continuation(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.encode(text, {.add_special_tokens = false});
}

std::int64_t unit_at(double depth, std::int64_t num_units) {
  return std::llround(depth * static_cast<double>(num_units - 1));
}

std::vector<std::int64_t> distinct_below(Draw draw, std::int64_t first, std::int64_t count,
                                         std::int64_t bound) {
  std::vector<std::int64_t> result = {first};
  while (static_cast<std::int64_t>(result.size()) < count) {
    const std::int64_t next = draw.below(bound);
    if (std::ranges::find(result, next) == result.end()) result.push_back(next);
  }
  return result;
}

}  // namespace pikv::launch
