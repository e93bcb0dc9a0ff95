// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A random batch for attention: sequences whose cached slots are divided over streams of pages, as
// shards would hold them. Built byte by byte; packed pages are converted by the CPU.
#pragma once

#include <optional>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/page_bounds.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {

/// The forms of keys and of values.
struct PageForm {
  PageForm(DType dtype) : keys(dtype), values(dtype) {}            // NOLINT: a type is a form
  PageForm(const ElementForm& form) : keys(form), values(form) {}  // NOLINT
  PageForm(const ElementForm& of_keys, const ElementForm& of_values)
      : keys(of_keys), values(of_values) {}
  ElementForm keys;
  ElementForm values;
};

struct AttentionShape {
  std::int32_t head_dim = 64;
  std::int32_t num_slots = 16;
  std::int32_t num_heads = 4;
  std::int32_t num_kv_heads = 2;
  std::int32_t num_streams = 3;  // a KV head and sequence; with more than one, the first is empty
  std::vector<PageForm> sealed = {DType::kF32};  // each page has one of them, at random
  std::optional<std::int32_t> window = std::nullopt;
  bool tells_of_single_rows = true;  // AttentionArgs::single_rows, where all segments are
  AttentionColumns columns = {};
  bool key_bounds = false;
  bool seals_all = false;   // also pages that are not full
  bool disordered = false;  // slots of a stream in any order, with some that hold nothing
  float key_factor = 1.0f;  // of all keys, which are normal otherwise
  /// Channels of keys and slots of values of a page are multiplied by random powers of two, up to
  /// 2^spread and down to 2^-spread.
  std::int32_t spread = 0;
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

  [[nodiscard]] std::vector<kernels::PageBound> run_bounds(Exec& exec,
                                                           kernels::GroupReduce reduce) const;

  /// Makes every query ask from `position`.
  void ask_from(std::int32_t position);
  void scale_queries(float factor);

  [[nodiscard]] const AttentionShape& shape() const { return shape_; }

 private:
  struct Stream {
    std::vector<std::size_t> sealed_offsets;  // of pages, in pages_
    std::vector<std::uint8_t> sealed_forms;
    std::int32_t last_sealed = -1;
    std::optional<std::size_t> open_offset;
  };

  [[nodiscard]] View<const PageLayout, 1> layouts() const {
    return {sealed_layouts_.data(), {static_cast<std::int64_t>(sealed_layouts_.size())}};
  }
  void append_stream(Random& random, const std::vector<std::int32_t>& positions);
  [[nodiscard]] static std::vector<std::int32_t> in_disorder(
      Random& random, const std::vector<std::int32_t>& positions);
  /// Pages and streams in the memory of an Exec.
  class Staged;

  std::size_t append_page(Random& random, const PageLayout& layout,
                          const std::vector<std::int32_t>& positions);

  AttentionShape shape_;
  std::vector<PageLayout> sealed_layouts_;
  PageLayout open_layout_;
  std::vector<float> q_;
  std::vector<std::int32_t> positions_;
  std::vector<kernels::AttentionSegment> segments_;
  std::vector<Stream> streams_;
  std::vector<std::byte> pages_;
  std::vector<std::size_t> column_offsets_;  // in pages_, of each page
};

}  // namespace pikv::test
