// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The plots of a sweep, as files.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// A folder that exists, made if need be, and can be written. Throws BadFile.
void make_plot_folder(const std::filesystem::path& folder);

/// Writes quality-GROUP.svg for each group and depth-GROUP.svg for those whose samples have depths;
/// what no file name should have becomes %XX. Throws BadFile.
void write_plots(const std::filesystem::path& folder, const std::vector<Sample>& samples,
                 std::span<const SweepCell> cells, std::span<const CellResult> results);

}  // namespace pikv::launch
