// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Slots come from streams in any order; some schedulers want them in the order of positions.
#pragma once

#include <cstddef>
#include <vector>

#include "core/cache/kv_cache.hpp"

namespace pikv {

/// Order of the positions, ascending; no two are the same.
[[nodiscard]] std::vector<std::size_t> sorted_order(const std::vector<Position>& positions);

/// Slot i becomes slot order[i] of before.
void reorder(KvCache::HeadContents& slots, const std::vector<std::size_t>& order);

}  // namespace pikv
