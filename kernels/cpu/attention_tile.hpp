// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The inner part of CPU attention: a block of query rows against a few lanes of slots at a time,
// with a running softmax (Milakov and Gimelshein 2018, 1805.02867; Dao et al. 2022, 2205.14135).
//
// With products in bfloat16 (attention_tile_bf16.cpp) scores and sums are the same to its rounding.
// Packed integers are multiplied as they are for few rows (attention_tile_bytes.cpp), to a rounding
// of 2^-15, and other packed elements unpacked a few lanes at a time. Keys before RoPE are rebuilt
// so.
//
// Invariant after every flush, for each query row i: o[i] = sum_j exp(s_j - m[i]) v_j and
// l[i] = sum_j exp(s_j - m[i]) over the slots seen, m[i] their largest score (-inf if none).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/attention.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/cpu/pre_rope.hpp"

namespace pikv::kernels::cpu {

class AttentionTile {
 public:
  /// `num_rows` query rows against pages as `args` says, in the scratch memory of one thread.
  AttentionTile(Exec& exec, int thread_idx, std::int64_t num_rows, const AttentionArgs& args);

  void set_query(std::int64_t row, const float* q, float scale, std::int32_t position);

  /// That of the pages which are pushed from now on, see StreamView::key_basis.
  void set_key_basis(const float* basis);

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
  static constexpr std::int64_t kMaxUnpackedLanes = 4;
  static_assert(kMaxUnpackedLanes <= kMaxRebuiltLanes);
  // With more rows, unpacking costs less than what rows need to be multiplied in bytes.
  static constexpr std::int64_t kMaxByteRows = 16;

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
    explicit Operand(std::int64_t lane_stride, bool asks_ahead = false)
        : stride(lane_stride), has_next(asks_ahead) {}
    std::array<const T*, kMaxLanes> lanes{};
    std::array<const T*, kMaxLanes> next{};  // of the queued lanes, to be asked for on the way
    std::int64_t stride;  // from channel to channel of keys, from slot to slot of values
    bool has_next;
  };
  template <class F>
  void with_keys(const F& f);
  [[nodiscard]] Operand<float> rebuilt_keys();
  template <class F>
  void with_values(const F& f);
  [[nodiscard]] bool in_bytes(const ElementForm& form) const {
    return form.is_integer() && !form.pre_rope && num_rows_ <= kMaxByteRows;
  }
  /// Whether keys or values are read from another place than their page.
  [[nodiscard]] bool unpacks(const ElementForm& form) const {
    return form.pre_rope || (form.packed() && !in_bytes(form));
  }
  [[nodiscard]] std::int64_t max_lanes(const PageLayout& layout) const {
    return unpacks(layout.keys) || unpacks(layout.values) ? kMaxUnpackedLanes : kMaxLanes;
  }

  /// Whether queued lanes take the place of those at hand one by one.
  [[nodiscard]] bool asks_ahead() const;
  void advance();
  void prefetch_keys(std::int64_t begin, std::int64_t end) const;  // of queued lanes
  void prefetch_values(std::int64_t begin, std::int64_t end) const;
  void prefetch_key_scales(std::int64_t j) const;
  void prefetch_value_scales(std::int64_t j) const;
  /// The lanes that take the place of lanes j, or these where none do.
  [[nodiscard]] const Lanes& lanes_after(std::int64_t j) const {
    return (j < num_queued_ ? queued_ : lanes_)[static_cast<std::size_t>(j)];
  }
  /// Of their keys.
  [[nodiscard]] static const std::byte* first_word(const Lanes& lanes) {
    return lanes.page + lanes.lane * 4;
  }
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
  void prepare_units();
  template <class Code>
  void score_bytes();
  template <class Code>
  void fold_scales(const std::byte* page, std::int64_t group, std::int64_t run);
  template <class Code>
  void score_lanes(std::int64_t begin, std::int64_t end, std::int64_t run);
  template <class Code>
  void score_lanes_of_slots(std::int64_t begin, std::int64_t end);
  [[nodiscard]] std::int64_t run_of_page(std::int64_t begin, std::int64_t group) const;
  template <class Code>
  void accumulate_bytes();
  template <class Code>
  void fold_weights(std::int64_t begin, std::int64_t end, std::int64_t group);
  template <class Code>
  void add_values(std::int64_t begin, std::int64_t end, std::int64_t c_begin, std::int64_t c_end,
                  std::int64_t group);

  std::int64_t num_rows_;
  std::int64_t head_dim_;
  std::int64_t value_stride_;
  std::optional<std::int32_t> window_;
  const PageLayout* layout_ = nullptr;  // of all lanes

  std::array<Lanes, kMaxLanes> lanes_{};  // at hand
  std::int64_t num_lanes_ = 0;
  std::array<Lanes, kMaxLanes> queued_{};  // next
  std::int64_t num_queued_ = 0;

  bool in_bf16_;  // products of rounded factors, see Exec::set_product_dtype
  // Pairs of bfloat16, where in_bf16_:
  std::uint32_t* q_pairs_;       // [rows, D / 2]
  std::uint32_t* weight_pairs_;  // [rows, kMaxLanes * kLanes / 2]
  std::uint32_t* key_pairs_;     // [kMaxLanes, D / 2, kLanes]
  std::uint32_t* value_pairs_;   // [kMaxLanes * kLanes / 2, Dp]

  float* unpacked_;  // keys [kMaxUnpackedLanes, D, kLanes], or values
  float* rebuilt_;   // keys [D, kMaxUnpackedLanes, kLanes], where some are stored before RoPE
  KeyRebuild rebuild_;
  // Where integers are multiplied in bytes:
  bool units_ready_ = false;
  float* q_units_;      // [rows, Dp], in units of q_steps_
  float* q_sums_;       // [rows, Dp / kLanes]: of kLanes units each
  float* q_steps_;      // [rows]
  float* unit_scales_;  // [Dp], those of the group at hand
  // Of each run of lanes that share scales of keys; of values there is one at a time.
  float* steps_;            // [kMaxLanes, rows]: what one of the factors stands for
  float* biases_;           // [kMaxLanes, rows]: what lows add
  float* peaks_;            // [rows]: the largest weight of the lanes at hand
  std::uint32_t* factors_;  // [kMaxLanes, rows, 2, Dp / 4], or [rows, 2, slots / 4] of values: high
                            // bytes, low bytes

  float* q_;                     // [rows, D]
  float* scores_;                // [rows, kMaxLanes * kLanes]
  float* o_;                     // [rows, Dp]
  float* largest_;               // [rows]
  float* total_;                 // [rows, kLanes], to be added up
  std::int32_t* row_positions_;  // [rows]
};

}  // namespace pikv::kernels::cpu
