// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// RoPE seen from the scorers' side: keys without it, and where queries to come will point, the mean
// of the rotations of the next positions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"
#include "core/policy/scheduler.hpp"

namespace pikv::scheduling {

/// The mean of the rotations by several positions; channels d and d + D / 2 are a pair. Fast
/// channels average to nearly nothing.
struct Rotation {
  std::vector<float> cos, sin;  // [D / 2]

  /// Turns `columns` vectors whose channels lie `stride` apart.
  void turn(float* x, std::int64_t stride, std::int64_t columns) const;
};

/// Of the positions next .. next + count - 1; inverse_frequencies [D / 2] in radians a position.
[[nodiscard]] Rotation average_rotation(std::span<const float> inverse_frequencies, Position next,
                                        std::int64_t count);

/// Keys [n, D] as they were before RoPE turned channels d and d + D / 2 by position * frequency.
/// Angles are in double precision; positions that follow each other share their trigonometry.
[[nodiscard]] std::vector<float> unrotated(const HeadSlots& head,
                                           std::span<const float> inverse_frequencies);

}  // namespace pikv::scheduling
