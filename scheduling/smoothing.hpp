// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Neighbours of an important token matter too.
#pragma once

#include <cstdint>
#include <span>

namespace pikv::scheduling {

/// Replaces every score by the average of `width` (odd) neighbours; places outside count as zeros,
/// as in SnapKV's pooling.
void smooth(std::span<float> scores, std::int64_t width);

/// Replaces every score by the largest of `width` (odd) neighbours, KVCache-Factory's pooling.
/// Slots beside each other then have equal scores.
void widen(std::span<float> scores, std::int64_t width);

}  // namespace pikv::scheduling
