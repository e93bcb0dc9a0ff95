// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the newest queries of a context attend to and what a scheduler evicts of it: a panel a KV
// head, layers below each other and heads side by side. Blue columns are kept, orange ones mostly
// evicted; the band below a panel has the share.
#pragma once

#include <string>

#include "launch/eval/context_watch.hpp"
#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// An SVG document. Colours are steps of a fixed scale, so that pictures compare with each other,
/// and are the same whatever the order of sums, unless one falls on the edge of a step.
[[nodiscard]] std::string attention_plot(const SweepCell& cell, const Sample& sample,
                                         const WatchedContext& context);

}  // namespace pikv::launch
