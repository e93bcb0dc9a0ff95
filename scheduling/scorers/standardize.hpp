// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores of different units are added after each is brought to mean 0 and deviation 1.
#pragma once

#include <span>
#include <vector>

namespace pikv::scheduling {

/// Replaces the scores of the heads of one layer by (s - mean) / deviation over all of them
/// together (deviation of a sample, at least 1e-6, as kvpress has it); equal scores become 0.
void standardize(std::span<std::vector<float>> scores);

}  // namespace pikv::scheduling
