// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a KvCache is made with, and what one of its sequences may have of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/policy/codec.hpp"
#include "core/policy/encoder.hpp"
#include "kernels/common/page_layout.hpp"

namespace pikv {

struct KvCacheConfig {
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int32_t page_slots = 16;   // a multiple of kLanes
  AttentionColumns columns = {};  // what the slots keep account of
  bool key_bounds = false;        // pages know the smallest and largest key of each channel
  // The codec's, if it has them; they must outlive the cache.
  const Basis* basis = nullptr;
  const Encoder* encoder = nullptr;
  // [D / 2], radians a position: of a codec that keeps keys as they were before RoPE; or none.
  std::vector<float> inverse_frequencies = {};
  std::optional<std::size_t> budget_bytes = std::nullopt;
};

/// Coordinates of one sequence, and the forms of its full pages there.
struct SequenceBasis {
  Basis basis;
  std::vector<std::uint8_t> forms;  // [L, Hkv]
  /// [L, Hkv, D, D], orthonormal, of keys before RoPE (ElementForm::pre_rope): the full pages of
  /// some forms are in it, open pages and queries are not. Empty where the codec fits no such
  /// keys.
  std::vector<float> pre_rope_keys{};
};

}  // namespace pikv
