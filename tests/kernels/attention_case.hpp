// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A random batch for attention, and what the reference makes of it: sequences whose cached slots
// are divided over streams, as the shards of a cache would hold them. Pages are laid out here
// element by element, without the page operations, each in its own memory.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/common/device_buffer.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv::reference {

struct AttentionShape {
  std::int32_t head_dim = 64;
  std::int32_t num_slots = 16;  // P
  std::int32_t num_kv_heads = 2;
  std::int32_t group = 2;        // G
  std::int32_t num_streams = 1;  // a KV head and sequence; with several, the first is empty
  ElementForm sealed = DType::kF32;
  std::optional<ElementForm> sealed_values = std::nullopt;  // if they have another form than keys
  std::vector<ElementForm> more_forms = {};                 // of keys and values: pages in turn
  std::optional<std::int32_t> window = std::nullopt;
  float largest_logit = 4.0f;     // about
  std::int32_t evict_one_in = 0;  // each slot is missing with this probability; 0: all are there
  AttentionColumns columns = {};
};

/// The last `num_rows` of `num_positions` ask.
struct AttentionSequence {
  std::int32_t num_rows;
  std::int32_t num_positions;
};

class AttentionCase {
 public:
  AttentionCase(testing_support::Random& random, const AttentionShape& shape,
                const std::vector<AttentionSequence>& sequences);

  /// Queries ask from these positions instead, row by row.
  void ask_from(std::vector<std::int32_t> positions) { positions_ = std::move(positions); }

  struct Result {
    std::vector<float> o;    // [T, H, D]
    std::vector<float> lse;  // [T, H]
    [[nodiscard]] bool operator==(const Result&) const = default;
  };
  /// `store_scores`: for add_columns, of sequences that ask with one row.
  [[nodiscard]] Result run(Exec& exec, bool store_scores = false);
  /// Attention that stores scores and adds them to the columns itself.
  [[nodiscard]] Result run_with_columns(Exec& exec, float decay);
  /// Adds what run() found to the columns of the slots, which start at 0.
  void add_columns(Exec& exec, const Result& result, float decay);

  /// Fails unless every row and head is what the reference says. `epsilon`: of the arithmetic under
  /// test, if it is neither float32 nor that of packed integers.
  void expect_correct(const Result& result, std::optional<double> epsilon = std::nullopt) const;
  /// Fails unless the columns are those of `rounds` times the same queries.
  void expect_columns(int rounds, double decay) const;

 private:
  struct Stream {
    std::vector<std::byte*> sealed;
    std::vector<std::uint8_t> forms;  // of these
    std::byte* open = nullptr;
    const float* key_basis = nullptr;
  };

  [[nodiscard]] Result run(Exec& exec, bool store_scores, std::optional<float> decay);
  [[nodiscard]] View<const PageLayout, 1> layouts() const {
    return {sealed_layouts_.data(), {static_cast<std::int64_t>(sealed_layouts_.size())}};
  }
  [[nodiscard]] bool holds_integers() const;
  void append_stream(testing_support::Random& random, std::vector<Slot>& slots);
  std::byte* append_page(const PageLayout& layout, std::span<Slot> slots);
  [[nodiscard]] View<const float, 1> frequencies() const {
    return {inverse_frequencies_.data(), {static_cast<std::int64_t>(inverse_frequencies_.size())}};
  }
  std::byte* append_open_page(std::span<const Slot> slots);
  struct Columns {
    std::array<double, kNumAttentionColumns> values{};
    bool near_tie = false;  // of a weight and an even share: a use or none, by rounding
  };
  [[nodiscard]] Columns expected_columns(std::size_t segment, std::size_t kv_head, const Slot& slot,
                                         int rounds, double decay) const;

  AttentionShape shape_;
  std::vector<PageLayout> sealed_layouts_;
  PageLayout open_layout_;
  float scale_;
  // Where some keys are stored before RoPE:
  std::vector<float> inverse_frequencies_;     // [D / 2]
  std::vector<std::vector<float>> key_bases_;  // [segments, Hkv] of [D, D]
  std::vector<float> q_;                       // [T, H, D]
  std::vector<std::int32_t> positions_;
  std::vector<kernels::AttentionSegment> segments_;
  std::vector<std::vector<Slot>> slots_;  // [segments, Hkv], as the pages hold them
  std::vector<Stream> streams_;
  std::vector<kernels::StreamView> views_;
  std::vector<float> scores_;
  std::vector<float> lse_;  // [T, H], as run() found it
  std::vector<DeviceBuffer<std::byte>> pages_;
};

}  // namespace pikv::reference
