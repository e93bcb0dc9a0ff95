// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a codec makes of the keys and values of one head, and of the attention to them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/policy/codec.hpp"
#include "kernels/common/exec.hpp"

namespace pikv::launch {

/// One KV head of one layer, as it was computed.
struct HeadSample {
  LayerId layer{};
  HeadId kv_head{};
  std::int64_t head_dim = 0;              // D
  std::vector<float> keys{};              // [n, D]; slot i is at position i
  std::vector<float> values{};            // [n, D]
  std::vector<float> queries{};           // [m, G, D]
  std::vector<std::int32_t> positions{};  // [m], ascending: of the queries
  std::int64_t group = 1;                 // G
};

/// Errors are Frobenius norms of the difference over those of the exact numbers.
struct CodecError {
  std::int64_t num_slots = 0;  // in full pages; a rest that fills none is left out
  std::size_t page_bytes = 0;  // of those pages
  double key = 0;
  double value = 0;
  double output = 0;  // of attention, softmax(q k / sqrt D) v over all queries of the head

  /// Against the same slots as bare keys and values in bf16.
  [[nodiscard]] double ratio(std::int64_t head_dim) const {
    return static_cast<double>(num_slots * head_dim * 4) / static_cast<double>(page_bytes);
  }
};

struct CodecUnderTest {
  const Codec& codec;
  // That it made for the model, if it has them.
  const Basis* basis = nullptr;
  const Encoder* encoder = nullptr;
  std::span<const float> inverse_frequencies = {};  // [D / 2], for keys before RoPE
};

/// Seals the full pages of `page_slots` slots that the head has, one at least, and attends to them.
/// A codec that is fitted to sequences is fitted to the head's slots. Where the codec has tiers,
/// slots are put into them by the attention that every second query pays them, and the output is
/// judged by the others. Throws InvalidArgument where the codec has no form for such pages, or no
/// frequencies to turn their keys by, and NotPackable.
[[nodiscard]] CodecError measure_codec(Exec& exec, const CodecUnderTest& tested,
                                       std::int32_t page_slots, const HeadSample& sample);

}  // namespace pikv::launch
