// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The inner part of CPU attention: a block of query rows against a few lanes of slots at a time,
// with a running softmax (Milakov and Gimelshein 2018, 1805.02867; Dao et al. 2022, 2205.14135).
//
// With products in bfloat16 (attention_tile_bf16.cpp) scores and sums are the same to its rounding.
//
// Invariant after every flush, for each query row i: o[i] = sum_j exp(s_j - m[i]) v_j and
// l[i] = sum_j exp(s_j - m[i]) over the slots seen, m[i] their largest score (-inf if none).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"

namespace pikv::kernels::cpu {

class AttentionTile {
 public:
  /// `num_rows` query rows of `head_dim` channels, in the scratch memory of one thread; `packed` if
  /// pages with packed elements may come.
  AttentionTile(Exec& exec, int thread_idx, std::int64_t num_rows, std::int64_t head_dim,
                std::optional<std::int32_t> window, bool packed);

  void set_query(std::int64_t row, const float* q, float scale, std::int32_t position);

  /// Adds kLanes slots of a page, starting at `lane`; `masked` when some row may not read them all.
  /// Their scores [rows, kLanes] go to `scores` too, if it is not null.
  void push(const PageLayout& layout, const std::byte* page, std::int32_t lane, bool masked,
            float* scores);

  /// Works off what was pushed.
  void flush();

  /// Writes the normalised output of a row, returns its log-sum-exp.
  float finish(std::int64_t row, float* o) const;

 private:
  // Slots a flush: their keys and values of 64 channels in float32 fill the first-level cache.
  static constexpr std::int64_t kMaxLanes = 8;

  // Where they are unpacked first, so that they stay in that cache beside their packed form.
  static constexpr std::int64_t kMaxPackedLanes = 4;

  struct Lanes {
    const std::byte* page;
    std::int32_t lane;  // the first slot
    const std::int32_t* positions;
    std::int64_t num_slots;  // written ones, at the front
    bool masked;
    float* scores;  // [rows, kLanes], or null
  };

  /// Where the keys (the values) of some lanes lie: in their page, or unpacked.
  template <class T>
  struct Operand {
    explicit Operand(std::int64_t lane_stride) : stride(lane_stride) {}
    std::array<const T*, kMaxLanes> lanes{};
    std::int64_t stride;  // from channel to channel of keys, from slot to slot of values
  };
  template <class F>
  void with_keys(const F& f);
  template <class F>
  void with_values(const F& f);

  void prefetch(const Lanes& lanes) const;
  template <class T>
  void score(const Operand<T>& keys);
  void mask();
  void store_scores() const;
  void update_softmax();
  template <class T>
  void accumulate(const Operand<T>& values);
  void round_query(std::int64_t row);
  template <class T>
  void score_bf16(const Operand<T>& keys);
  template <class T>
  void accumulate_bf16(const Operand<T>& values);

  std::int64_t num_rows_;
  std::int64_t head_dim_;
  std::int64_t value_stride_;
  std::optional<std::int32_t> window_;
  const PageLayout* layout_ = nullptr;  // of the lanes

  std::array<Lanes, kMaxLanes> lanes_{};
  std::int64_t num_lanes_ = 0;

  bool in_bf16_;  // products of rounded factors, see Exec::set_product_dtype
  // Pairs of bfloat16, where in_bf16_:
  std::uint32_t* q_pairs_;       // [rows, D / 2]
  std::uint32_t* weight_pairs_;  // [rows, kMaxLanes * kLanes / 2]
  std::uint32_t* key_pairs_;     // [kMaxLanes, D / 2, kLanes]
  std::uint32_t* value_pairs_;   // [kMaxLanes * kLanes / 2, Dp]

  float* unpacked_;              // keys [kMaxPackedLanes, D, kLanes], or values
  float* q_;                     // [rows, D]
  float* scores_;                // [rows, kMaxLanes * kLanes]
  float* o_;                     // [rows, Dp]
  float* largest_;               // [rows]
  float* total_;                 // [rows]
  std::int32_t* row_positions_;  // [rows]
};

}  // namespace pikv::kernels::cpu
