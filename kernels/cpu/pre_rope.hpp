// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys that pages hold as they were before RoPE (common/element_form.hpp): rebuilding them for
// attention, a few vectors of slots at a time, and finding their coordinates to seal them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/common/page_layout.hpp"

namespace pikv::kernels::cpu {

/// What such keys are rebuilt with.
struct KeyRebuild {
  const float* basis;                // [D, D], orthonormal
  const float* inverse_frequencies;  // [D / 2]
};

/// kLanes slots of a page.
struct PageLanes {
  const std::byte* page;
  std::int32_t lane;  // the first slot
};

/// So many are rebuilt at once: their keys of 64 channels take half of the first-level cache.
inline constexpr std::int64_t kMaxRebuiltLanes = 4;

/// The keys of these slots, at most kMaxRebuiltLanes vectors of them: channel d of vector j at
/// keys + d * stride + j * kLanes. Those of slots that hold nothing are finite. `latents`: room for
/// as many vectors of D channels, [lanes, D, kLanes]. D r multiply-adds a slot, and D / 2 sines and
/// cosines.
void rebuild_keys(const PageLayout& layout, const KeyRebuild& rebuild,
                  std::span<const PageLanes> lanes, float* latents, float* keys,
                  std::ptrdiff_t stride);

/// Keys [D, P] of a page with these positions to the coordinates that are stored, [r, P].
/// `turned`: room for [D, kLanes].
void project_keys(const PageLayout& layout, const KeyRebuild& rebuild, const float* keys,
                  const std::int32_t* positions, float* turned, float* latents);

}  // namespace pikv::kernels::cpu
