// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What schedulers answer against what they hold: a panel a mode, a line a scheduler over its
// budgets, the 95 % intervals, and the full cache as a level to reach.
#pragma once

#include <span>
#include <string>

#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// An SVG document about one group. The horizontal axis is bytes of KV pages, or the fraction of
/// slots kept if some result does not know its bytes.
[[nodiscard]] std::string quality_plot(const std::string& group, std::span<const SweepCell> cells,
                                       std::span<const CellResult> results);

}  // namespace pikv::launch
