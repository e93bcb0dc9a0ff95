// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the generated tasks share: the samples to make, and contexts of an asked length.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "launch/eval/draw.hpp"
#include "launch/eval/task.hpp"

namespace pikv::launch {

/// A sample to make.
struct Cell {
  std::string id;  // "niah.1024.d50.3": task, length, depth in per cent if asked for, subscript
  std::int64_t length;
  double depth;  // asked for or drawn
  std::uint64_t seed;

  /// The random choices of the sample for one purpose.
  [[nodiscard]] Draw draw(std::string_view purpose) const;
};

/// Every length x depth x subscript. `spec` names the task with its options, so that two variants
/// draw differently.
[[nodiscard]] std::vector<Cell> cells(std::string_view spec, const TaskOptions& options);
/// The same for a task without depth: one for each length and subscript.
[[nodiscard]] std::vector<Cell> cells_without_depth(std::string_view spec,
                                                    const TaskOptions& options);

struct FittedContext {
  std::int64_t num_units = 0;
  std::string text;
  std::vector<TokenId> tokens;
};

/// The text of the most units of filler, at least `min_units`, whose tokens are at most
/// `cell.length`. `build(n)` is the text with n units; its tokens grow with n. Throws
/// InvalidArgument if the fewest units are too long. O(log n) tokenizations.
[[nodiscard]] FittedContext fit_context(const Tokenizer& tokenizer, const Cell& cell,
                                        std::int64_t min_units,
                                        const std::function<std::string(std::int64_t)>& build);

/// A question whose answers are strings to find in the output, in one line.
[[nodiscard]] Question make_question(const Tokenizer& tokenizer, Metric metric,
                                     std::string_view text, std::vector<std::string> answers);

/// The ids of text that follows other text.
[[nodiscard]] std::vector<TokenId> encode_continuation(const Tokenizer& tokenizer,
                                                       std::string_view text);

/// The unit of `num_units` at `depth`: 0 is the first, 1 the last.
[[nodiscard]] std::int64_t unit_at(double depth, std::int64_t num_units);

/// `count` different subscripts below `bound`; the first of them is `first`. The rest is drawn.
[[nodiscard]] std::vector<std::int64_t> distinct_below(Draw draw, std::int64_t first,
                                                       std::int64_t count, std::int64_t bound);

}  // namespace pikv::launch
