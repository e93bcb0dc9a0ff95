// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The results of a sweep as a table for people and as CSV for programs.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// One line a cell, under a line of names; one column a group of the first result, and one of hit
/// rates where some result has it.
[[nodiscard]] std::string to_table(std::span<const SweepCell> cells,
                                   std::span<const CellResult> results);

/// RFC 4180 with line feeds: one line for each group of each cell, under a line of names. A field
/// is empty where there is nothing to say: unknown bytes, right answers of what is no answer,
/// what was not measured.
[[nodiscard]] std::string to_csv(std::string_view task, std::span<const SweepCell> cells,
                                 std::span<const CellResult> results);

}  // namespace pikv::launch
