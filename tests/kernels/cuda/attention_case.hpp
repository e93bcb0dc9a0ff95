// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A random batch for attention: sequences whose cached slots are divided over streams of pages, as
// shards would hold them. Built byte by byte, without the page operations.
#pragma once

#include <optional>
#include <vector>

#include "kernels/attention.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {

struct AttentionShape {
  std::int32_t head_dim = 64;
  std::int32_t num_slots = 16;
  std::int32_t num_heads = 4;
  std::int32_t num_kv_heads = 2;
  std::int32_t num_streams = 3;  // a KV head and sequence; with more than one, the first is empty
  DType sealed = DType::kF32;
  std::optional<std::int32_t> window = std::nullopt;
  AttentionColumns columns = {};
};

/// The last `num_rows` positions of a context ask.
struct Sequence {
  std::int32_t num_rows;
  std::int32_t num_positions;
};

class AttentionCase {
 public:
  /// Every slot is cached with probability 4/5; the segments come in random order.
  AttentionCase(Random& random, const AttentionShape& shape,
                const std::vector<Sequence>& sequences);

  struct Result {
    std::vector<float> o;        // [T, H, D]
    std::vector<float> lse;      // [T, H]
    std::vector<float> columns;  // of all pages, after attention_columns
  };
  [[nodiscard]] Result run(Exec& exec) const;

  /// Makes every query ask from `position`.
  void ask_from(std::int32_t position);

 private:
  struct Stream {
    std::vector<std::size_t> sealed_offsets;  // of pages, in pages_
    std::optional<std::size_t> open_offset;
  };

  void append_stream(Random& random, const std::vector<std::int32_t>& positions);
  std::size_t append_page(Random& random, const PageLayout& layout,
                          const std::vector<std::int32_t>& positions);

  AttentionShape shape_;
  PageLayout sealed_layout_;
  PageLayout open_layout_;
  std::vector<float> q_;
  std::vector<std::int32_t> positions_;
  std::vector<kernels::AttentionSegment> segments_;
  std::vector<Stream> streams_;
  std::vector<std::byte> pages_;
  std::vector<std::size_t> column_offsets_;  // in pages_, of each page
};

}  // namespace pikv::test
