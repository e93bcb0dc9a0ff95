// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A progress bar on standard error, when that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace pikv::launch {

class ProgressBar {
 public:
  /// Shows nothing unless `enabled` and standard error is a terminal.
  ProgressBar(std::string label, bool enabled);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Redraws at most ten times a second: bar, count, rate and time left.
  void update(std::int64_t done, std::int64_t total);
  /// Removes the bar, so that other output can follow.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  bool visible_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_{};
};

}  // namespace pikv::launch
