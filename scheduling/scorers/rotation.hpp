// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Where queries to come will point: the mean of the RoPE rotations of the next positions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"

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

}  // namespace pikv::scheduling
