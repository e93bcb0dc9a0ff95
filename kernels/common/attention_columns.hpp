// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What schedulers may want to know of the attention that each slot receives. a_t is the softmax
// weight of the slot for the query at position t, the mean over the query heads of its group;
// columns are gathered over the queries that could read the slot, its own included.
#pragma once

#include <bit>
#include <cstdint>

namespace pikv {

enum class AttentionColumn : std::uint8_t {
  kSum,               // sum of a_t
  kSquareSum,         // sum of a_t^2
  kDecayed,           // e_t = decay * e_(t - 1) + (1 - decay) * a_t, from e = 0
  kDecayedSum,        // sum of e_t
  kDecayedSquareSum,  // sum of e_t^2
  kLargestFar,        // the largest weight of any head of the group, from a sampled query afar
  kLastUse,           // the newest t with a_t >= 1 / (t + 1), an even share; 0 if there is none
  kNumUses,           // how many t had that
};
inline constexpr int kNumAttentionColumns = 8;

/// What kLargestFar looks at: every kSampledQueries-th query, the last of each such run of
/// positions, to slots at least kFarDistance before it.
inline constexpr std::int32_t kSampledQueries = 16;
inline constexpr std::int32_t kFarDistance = 32;
[[nodiscard]] constexpr bool is_sampled_query(std::int32_t position) {
  return position % kSampledQueries == kSampledQueries - 1;
}

/// A set of columns. They are stored in the order of the enumeration, float32 each.
class AttentionColumns {
 public:
  constexpr AttentionColumns() = default;
  template <class... Columns>
  explicit constexpr AttentionColumns(AttentionColumn first, Columns... more)
      : bits_(static_cast<std::uint8_t>((bit(first) | ... | bit(more)))) {}

  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  [[nodiscard]] constexpr std::int32_t count() const { return std::popcount(bits_); }
  [[nodiscard]] constexpr bool has(AttentionColumn column) const {
    return (bits_ & bit(column)) != 0;
  }
  [[nodiscard]] constexpr bool has_all(AttentionColumns others) const {
    return (others.bits_ & ~bits_) == 0;
  }
  /// How many columns of the set come before this one.
  [[nodiscard]] constexpr std::int32_t place(AttentionColumn column) const {
    return std::popcount(static_cast<std::uint8_t>(bits_ & (bit(column) - 1)));
  }

  [[nodiscard]] friend constexpr AttentionColumns operator|(AttentionColumns a,
                                                            AttentionColumns b) {
    AttentionColumns both;
    both.bits_ = static_cast<std::uint8_t>(a.bits_ | b.bits_);
    return both;
  }
  [[nodiscard]] constexpr bool operator==(const AttentionColumns&) const = default;

 private:
  static constexpr std::uint8_t bit(AttentionColumn column) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(column));
  }
  std::uint8_t bits_ = 0;
};

}  // namespace pikv
