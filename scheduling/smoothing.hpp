// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Neighbours of an important token matter too.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/ids.hpp"

namespace pikv::scheduling {

/// Replaces every score by the average of `width` (odd) neighbours; places outside count as zeros,
/// as in SnapKV's pooling.
void smooth(std::span<float> scores, std::int64_t width);

/// Each becomes the mean over the slots that are there of the `width` places of the text around its
/// own, so that what was evicted between two slots does not make them neighbours. Positions ascend.
void smooth_in_text(std::span<float> scores, std::span<const Position> positions,
                    std::int64_t width);

/// Replaces every score by the largest of `width` (odd) neighbours, KVCache-Factory's pooling.
/// Slots beside each other then have equal scores.
void widen(std::span<float> scores, std::int64_t width);

}  // namespace pikv::scheduling
