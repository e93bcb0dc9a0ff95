// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Runs cells of a sweep: a model under one scheduler and budget, and all questions about it.
#pragma once

#include <optional>
#include <vector>

#include "core/io/tokenizer/tokenizer.hpp"
#include "launch/eval/row_means.hpp"
#include "launch/eval/sweep.hpp"
#include "launch/runtime.hpp"

namespace pikv::launch {

/// What all cells of a sweep have in common.
struct CellSetting {
  Measure measure = Measure::kScore;
  /// Tokens that the model generates between a context and its question, in mode agnostic.
  std::int64_t gap = 0;
  /// The questions of a sample and their answers follow each other, the gap before the first.
  bool update_cache = false;
  bool draws_maps = false;  // CellResult::map
  /// Each cell is followed by a run of the full cache over the same tokens, see HitRate.
  bool hit_rate = false;
};

class CellRunner {
 public:
  /// All references must outlive the runner. Scheduler and budget of the options are those of the
  /// cells.
  CellRunner(Communicator& comm, const RuntimeOptions& options, const Tokenizer& tokenizer,
             const std::vector<Sample>& samples, const CellSetting& setting)
      : comm_(comm),
        options_(options),
        tokenizer_(tokenizer),
        samples_(samples),
        setting_(setting) {}

  /// A collective; the result is the same on every rank, but for the seconds and the map, which
  /// rank 0 has. The first cell of kKl and kOutputError runs the full cache before, and keeps its
  /// logits: samples x tokens x vocabulary floats.
  [[nodiscard]] CellResult run(const SweepCell& cell, const ProgressCallback& on_step);

 private:
  /// A finished cell, with the requests that asked its questions.
  struct Run {
    CellResult result;
    std::vector<Request> requests;
    std::vector<Completion> completions;
  };
  [[nodiscard]] Run run_questions(const SweepCell& cell, const ProgressCallback& on_step);
  [[nodiscard]] std::optional<double> hit_rate(const Run& run,
                                               const ProgressCallback& on_step) const;
  [[nodiscard]] RuntimeOptions full_cache_options() const;
  /// Of each question of each sample.
  [[nodiscard]] std::vector<Request> requests_of(const Runtime& runtime, Mode mode) const;
  [[nodiscard]] std::vector<double> score_answers(const std::vector<Completion>& completions) const;
  void put_gaps(Runtime& runtime, std::vector<Request>& requests,
                const ProgressCallback& on_step) const;
  void run_reference(Mode mode, const ProgressCallback& on_step);
  /// Of the rows that a measure other than kScore is the mean of.
  [[nodiscard]] RowFigure figure(std::span<const Request> requests) const;

  Communicator& comm_;
  const RuntimeOptions& options_;
  const Tokenizer& tokenizer_;
  const std::vector<Sample>& samples_;
  CellSetting setting_;
  std::optional<ReferenceRows> reference_;
};

}  // namespace pikv::launch
