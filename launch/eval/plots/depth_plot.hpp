// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Where in the context answers are found: a panel a cell, lengths across, depths down, the
// beginning of the context at the top.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// Whether a sample of the group knows where its answer stands.
[[nodiscard]] bool has_depths(const std::string& group, const std::vector<Sample>& samples);

/// An SVG document about one group that has depths; of each sample counts its first question, whose
/// answer stands at the depth. More than ten different depths are put into ten bins.
[[nodiscard]] std::string depth_plot(const std::string& group, const std::vector<Sample>& samples,
                                     std::span<const SweepCell> cells,
                                     std::span<const CellResult> results);

}  // namespace pikv::launch
