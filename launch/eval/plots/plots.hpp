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

/// The file of a cell's map in a folder: map-SCHEDULER-BUDGET-MODE.svg, escaped alike. Throws
/// BadFile for a name that no file can have.
[[nodiscard]] std::filesystem::path map_path(const std::filesystem::path& folder,
                                             const SweepCell& cell);

/// Writes the map of a result there. Throws BadFile.
void write_map(const std::filesystem::path& folder, const SweepCell& cell,
               const CellResult& result);

}  // namespace pikv::launch
