// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How LongBench (Bai et al. 2023, 2308.14508) asks, answers and scores: its English and code sets.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "launch/eval/metrics.hpp"

namespace pikv::launch {

struct Dataset {
  std::string_view name;
  Metric metric;
  std::int64_t max_tokens;
  bool first_line_only;
  /// What follows the context; "{}" is the sample's input.
  std::string_view question;
};

[[nodiscard]] std::span<const Dataset> datasets();

/// Null if there is none of that name; "qasper_e" (LongBench-E) is "qasper".
[[nodiscard]] const Dataset* find_dataset(std::string_view name);

}  // namespace pikv::launch
