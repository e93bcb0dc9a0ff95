// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What one evaluation runs: every scheduler with every budget, codec and mode, each a cell.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine/engine.hpp"
#include "launch/eval/measure.hpp"
#include "launch/eval/task.hpp"

namespace pikv::launch {

/// When the cache is compressed: before the question is read, or after all of it but its last
/// token.
enum class Mode : std::uint8_t { kAgnostic, kAware };

[[nodiscard]] std::string_view name(Mode mode);
/// Throws InvalidArgument for another name.
[[nodiscard]] Mode parse_mode(std::string_view text);

struct SweepCell {
  std::string scheduler;
  std::string budget;  // as it was given
  Mode mode;
  std::string codec = "none";

  /// The policies: "h2o", or "h2o, int4" with a codec.
  [[nodiscard]] std::string label() const {
    return codec == "none" ? scheduler : scheduler + ", " + codec;
  }
};

/// The lists that a sweep combines.
struct SweepLists {
  std::vector<std::string> schedulers, budgets, codecs;
  std::vector<Mode> modes;
};

/// Every combination; the scheduler "full" once a mode and codec, whatever the budgets.
[[nodiscard]] std::vector<SweepCell> make_cells(const SweepLists& lists);

/// Scores of the questions of one group in one cell.
struct GroupResult {
  std::string group;
  std::vector<double> scores;  // of each question
  Measure measure = Measure::kScore;

  [[nodiscard]] Estimate estimate() const { return launch::estimate(measure, scores); }
  [[nodiscard]] double correct() const;  // the sum of the scores
};

struct CellResult {
  std::vector<GroupResult> groups;  // in the order of the task
  double kept = 1;                  // fraction of all slots that was not evicted
  /// Pages of all ranks when a question ends, a question; 0 in files that were written without it.
  double kv_bytes = 0;
  double pages_read = 1;                   // fraction of pages, where a scheduler chooses
  std::optional<double> attention_read{};  // fraction of its weight that they have, if measured
  std::optional<double> top_pages_read{};  // fraction of the best pages that are among them
  /// Share of a full cache's attention that falls on what was held, if measured, see HitRate.
  std::optional<double> hit_rate{};
  double scheduling_seconds = 0;
  double seconds = 0;
  std::string map = {};  // of the first context, an SVG document, where asked for
};

/// What the questions of a sample have in common.
enum class Sharing : std::uint8_t {
  kNothing,
  kContext,       // compressed once, before any question; of kAgnostic
  kConversation,  // each question follows the one before and its answer
};

/// The requests that ask all questions of all samples, in order.
[[nodiscard]] std::vector<Request> make_requests(const std::vector<Sample>& samples, Mode mode,
                                                 Sharing sharing,
                                                 const std::vector<TokenId>& stop_tokens);

/// The request that asks a question about a context. Only a question without a continuation may end
/// at a stop token.
[[nodiscard]] Request make_request(const Sample& sample, const Question& question, Mode mode,
                                   const std::vector<TokenId>& stop_tokens);

}  // namespace pikv::launch
