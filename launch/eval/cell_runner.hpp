// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Runs cells of a sweep: a model under one scheduler and budget, and all questions about it.
#pragma once

#include <vector>

#include "core/io/tokenizer/tokenizer.hpp"
#include "launch/eval/sweep.hpp"
#include "launch/runtime.hpp"

namespace pikv::launch {

class CellRunner {
 public:
  /// All references must outlive the runner. Scheduler and budget of the options are those of the
  /// cells.
  CellRunner(Communicator& comm, const RuntimeOptions& options, const Tokenizer& tokenizer,
             const std::vector<Sample>& samples)
      : comm_(comm), options_(options), tokenizer_(tokenizer), samples_(samples) {}

  /// A collective; the result is the same on every rank, but for the seconds.
  [[nodiscard]] CellResult run(const SweepCell& cell, const ProgressCallback& on_step);

 private:
  Communicator& comm_;
  const RuntimeOptions& options_;
  const Tokenizer& tokenizer_;
  const std::vector<Sample>& samples_;
};

}  // namespace pikv::launch
