// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_tile.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/cpu/codes.hpp"
#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/score_block.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// From this many query rows on, rounding keys and values to bfloat16 pays.
constexpr std::int64_t kBf16Rows = 16;

// With more query rows a page is worked on long enough for the next ones to arrive by themselves.
constexpr std::int64_t kPrefetchRows = 16;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// o[r, c...] += sum over slots of p[r, slot] * v[slot, c...], kVectors vectors of channels wide.
/// `next`: values to be asked for on the way, or null.
template <int kRows, int kVectors, class T>
void value_block(const float* p, std::int64_t p_stride, const T* const* values,
                 const std::int64_t* num_slots, std::int64_t num_lanes, std::int64_t value_stride,
                 float* o, std::int64_t o_stride, const T* const* next) {
  F32x16 acc[std::size_t{kRows}][std::size_t{kVectors}];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVectors; ++c) acc[r][c] = load(o + r * o_stride + c * kVecLanes);
  }
  for (std::int64_t lane = 0; lane < num_lanes; ++lane) {
    for (std::int64_t j = 0; j < num_slots[lane]; ++j) {
      F32x16 v[std::size_t{kVectors}];
      const T* slot = values[lane] + j * value_stride;
      for (int c = 0; c < kVectors; ++c) v[c] = load(slot + c * kVecLanes);
      if (next != nullptr) {
        constexpr int kLine = 64 / static_cast<int>(sizeof(T));
        const T* next_slot = next[lane] + j * value_stride;
        for (int c = 0; c < kVectors * kVecLanes; c += kLine) {
          __builtin_prefetch(next_slot + c, 0, 2);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        const F32x16 weight = broadcast(p[r * p_stride + lane * kLanes + j]);
        for (int c = 0; c < kVectors; ++c) acc[r][c] += weight * v[c];
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVectors; ++c) store(o + r * o_stride + c * kVecLanes, acc[r][c]);
  }
}

void prefetch_bytes(const std::byte* from, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 64) __builtin_prefetch(from + i, 0, 2);
}

}  // namespace

AttentionTile::AttentionTile(Exec& exec, int thread_idx, std::int64_t num_rows,
                             const AttentionArgs& args)
    : num_rows_(num_rows),
      head_dim_(args.q.extent(2)),
      value_stride_((head_dim_ + kLanes - 1) / kLanes * kLanes),
      window_(args.window),
      in_bf16_(exec.product_dtype() == DType::kBf16 && num_rows >= kBf16Rows),
      rebuild_{.basis = nullptr, .inverse_frequencies = args.inverse_frequencies.data} {
  const std::span layouts(args.sealed_layouts.data,
                          static_cast<std::size_t>(args.sealed_layouts.size()));
  const bool packed = std::ranges::any_of(layouts, &PageLayout::packed);
  const bool rebuilds =
      std::ranges::any_of(layouts, [](const PageLayout& l) { return l.keys.pre_rope; });
  const std::int64_t head_dim = head_dim_;
  const std::int64_t num_pairs = (head_dim + 1) / 2;
  const std::int64_t score_floats = num_rows * kMaxLanes * kLanes;
  const std::int64_t floats = score_floats + num_rows * (value_stride_ + head_dim + kLanes + 2);
  const std::int64_t pair_floats = in_bf16_ ? num_rows * num_pairs + score_floats / 2 +
                                                  kMaxLanes * num_pairs * kLanes +
                                                  kMaxLanes * kLanes / 2 * value_stride_
                                            : 0;
  const std::int64_t unpacked_floats = packed ? kMaxUnpackedLanes * kLanes * value_stride_ : 0;
  const std::int64_t rebuilt_floats = rebuilds ? kMaxUnpackedLanes * kLanes * head_dim : 0;
  const std::int64_t byte_rows = packed && num_rows <= kMaxByteRows ? num_rows : 0;
  const std::int64_t scale_floats = byte_rows > 0 ? value_stride_ : 0;
  const std::int64_t factor_words = kMaxLanes * value_stride_ / 2;
  const std::int64_t num_vectors = value_stride_ / kVecLanes;
  const std::int64_t byte_floats =
      byte_rows * (value_stride_ + num_vectors + 2 + 2 * kMaxLanes + factor_words) + scale_floats;
  scores_ =
      exec.scratch(thread_idx, static_cast<std::size_t>(floats + pair_floats + unpacked_floats +
                                                        rebuilt_floats + byte_floats));
  o_ = scores_ + score_floats;
  q_ = o_ + num_rows * value_stride_;
  largest_ = q_ + num_rows * head_dim;
  total_ = largest_ + num_rows;
  row_positions_ = reinterpret_cast<std::int32_t*>(total_ + num_rows * kLanes);
  q_pairs_ = reinterpret_cast<std::uint32_t*>(row_positions_ + num_rows);
  weight_pairs_ = q_pairs_ + num_rows * num_pairs;
  key_pairs_ = weight_pairs_ + score_floats / 2;
  value_pairs_ = key_pairs_ + kMaxLanes * num_pairs * kLanes;
  unpacked_ = scores_ + floats + pair_floats;
  rebuilt_ = unpacked_ + unpacked_floats;
  q_units_ = rebuilt_ + rebuilt_floats;
  q_sums_ = q_units_ + byte_rows * value_stride_;
  q_steps_ = q_sums_ + byte_rows * num_vectors;
  steps_ = q_steps_ + byte_rows;
  biases_ = steps_ + kMaxLanes * byte_rows;
  peaks_ = biases_ + kMaxLanes * byte_rows;
  unit_scales_ = peaks_ + byte_rows;
  factors_ = reinterpret_cast<std::uint32_t*>(unit_scales_ + scale_floats);
  std::fill_n(o_, num_rows * value_stride_, 0.0f);
  std::fill_n(largest_, num_rows, kMinusInfinity);
  std::fill_n(total_, num_rows * kLanes, 0.0f);
}

void AttentionTile::set_query(std::int64_t row, const float* q, float scale,
                              std::int32_t position) {
  for (std::int64_t d = 0; d < head_dim_; ++d) q_[row * head_dim_ + d] = q[d] * scale;
  row_positions_[row] = position;
  if (in_bf16_) round_query(row);
}

void AttentionTile::set_key_basis(const float* basis) {
  if (basis != rebuild_.basis) flush();
  rebuild_.basis = basis;
}

void AttentionTile::push(const PageLayout& layout, const std::byte* page, std::int32_t lane,
                         bool masked, float* scores) {
  if (num_queued_ > 0 && (layout.keys != layout_->keys || layout.values != layout_->values)) {
    flush();
  }
  layout_ = &layout;
  if (num_queued_ == max_lanes(layout)) advance();
  const auto* positions =
      reinterpret_cast<const std::int32_t*>(page + layout.position_offset()) + lane;
  std::int64_t num_slots = kLanes;
  while (num_slots > 0 && positions[num_slots - 1] == kNoPosition) --num_slots;
  queued_[static_cast<std::size_t>(num_queued_++)] = {.page = page,
                                                      .lane = lane,
                                                      .positions = positions,
                                                      .num_slots = num_slots,
                                                      .masked = masked,
                                                      .scores = scores};
}

void AttentionTile::flush() {
  advance();
  advance();
}

/// Works off the lanes at hand; those that are queued are at hand then.
void AttentionTile::advance() {
  if (num_lanes_ > 0) {
    with_keys([&](const auto& keys) { in_bf16_ ? score_bf16(keys) : score(keys); });
    mask();
    store_scores();
    update_softmax();
    with_values(
        [&](const auto& values) { in_bf16_ ? accumulate_bf16(values) : accumulate(values); });
  } else if (num_queued_ > 0) {
    prefetch_keys(0, num_queued_);
    prefetch_values(0, num_queued_);
  }
  lanes_ = queued_;
  num_lanes_ = num_queued_;
  num_queued_ = 0;
}

// Pages lie anywhere in memory and are short, so the hardware's prefetcher restarts at each: asking
// for lanes that are queued while others are worked off hides that.
void AttentionTile::prefetch_keys(std::int64_t begin, std::int64_t end) const {
  if (num_rows_ > kPrefetchRows) return;
  const ElementForm& form = layout_->keys;
  const std::int64_t num_words = form.is_integer() ? form.codes_per_word() : 1;
  const std::ptrdiff_t word_bytes = form.is_integer() ? 4 : form.bits() / 8;
  for (std::int64_t j = begin; j < std::min(end, num_queued_); ++j) {
    const Lanes& lanes = queued_[static_cast<std::size_t>(j)];
    const std::byte* at = lanes.page + lanes.lane * word_bytes;
    for (std::int64_t d = 0; d < layout_->key_channels(); d += num_words) {
      __builtin_prefetch(at, 0, 2);
      at += layout_->num_slots * word_bytes;
    }
    prefetch_key_scales(j);
  }
}

void AttentionTile::prefetch_key_scales(std::int64_t j) const {
  const Lanes& lanes = queued_[static_cast<std::size_t>(j)];
  if (lanes.lane > 0 || !layout_->keys.packed()) return;
  prefetch_bytes(lanes.page + layout_->key_scales_offset(),
                 layout_->value_offset() - layout_->key_scales_offset());
}

void AttentionTile::prefetch_values(std::int64_t begin, std::int64_t end) const {
  if (num_rows_ > kPrefetchRows) return;
  const ElementForm& form = layout_->values;
  const auto slot_bytes = static_cast<std::size_t>(layout_->value_stride() * form.bits() / 8);
  for (std::int64_t j = begin; j < std::min(end, num_queued_); ++j) {
    const Lanes& lanes = queued_[static_cast<std::size_t>(j)];
    prefetch_bytes(
        lanes.page + layout_->value_offset() + static_cast<std::size_t>(lanes.lane) * slot_bytes,
        static_cast<std::size_t>(kLanes) * slot_bytes);
    prefetch_value_scales(j);
  }
}

void AttentionTile::prefetch_value_scales(std::int64_t j) const {
  const Lanes& lanes = queued_[static_cast<std::size_t>(j)];
  if (lanes.lane > 0 || !layout_->values.packed()) return;
  prefetch_bytes(lanes.page + layout_->value_scales_offset(),
                 layout_->position_offset() - layout_->value_scales_offset());
}

bool AttentionTile::asks_ahead() const {
  return num_queued_ == num_lanes_ && num_rows_ <= kPrefetchRows && !in_bf16_;
}

template <class F>
void AttentionTile::with_keys(const F& f) {
  if (unpacks(layout_->keys)) prefetch_keys(0, kMaxLanes);
  if (layout_->keys.pre_rope) return f(rebuilt_keys());
  const std::int64_t lane_floats = head_dim_ * kLanes;
  const auto plain = [&]<class T>() {
    Operand<T> keys(layout_->num_slots, asks_ahead());
    const auto at = [](const Lanes& lanes) {
      return reinterpret_cast<const T*>(lanes.page) + lanes.lane;
    };
    for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
      keys.lanes[j] = at(lanes_[j]);
      if (keys.has_next) keys.next[j] = at(queued_[j]);
    }
    if (!keys.has_next) prefetch_keys(0, kMaxLanes);
    f(keys);
  };
  dispatch_element(layout_->keys.element, plain, [&]<class Code>() {
    if constexpr (Code::kHasLow) {
      if (in_bytes(layout_->keys)) return score_bytes<Code>();
    }
    Operand<float> keys(kLanes);
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
      float* to = unpacked_ + j * lane_floats;
      unpack_keys(*layout_, lanes.page, lanes.lane, to);
      keys.lanes[static_cast<std::size_t>(j)] = to;
    }
    f(keys);
  });
}

AttentionTile::Operand<float> AttentionTile::rebuilt_keys() {
  Operand<float> keys(kMaxUnpackedLanes * kLanes);
  std::array<PageLanes, kMaxUnpackedLanes> stored{};
  for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
    stored[j] = {lanes_[j].page, lanes_[j].lane};
    keys.lanes[j] = rebuilt_ + static_cast<std::ptrdiff_t>(j) * kLanes;
  }
  rebuild_keys(*layout_, rebuild_, std::span(stored).first(static_cast<std::size_t>(num_lanes_)),
               unpacked_, rebuilt_, keys.stride);
  return keys;
}

template <class F>
void AttentionTile::with_values(const F& f) {
  if (unpacks(layout_->values)) prefetch_values(0, kMaxLanes);
  const auto plain = [&]<class T>() {
    const std::int64_t stride = layout_->value_stride();
    Operand<T> values(stride, asks_ahead());
    const auto at = [&](const Lanes& lanes) {
      return reinterpret_cast<const T*>(lanes.page + layout_->value_offset()) + lanes.lane * stride;
    };
    for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
      values.lanes[j] = at(lanes_[j]);
      if (values.has_next) values.next[j] = at(queued_[j]);
    }
    if (!values.has_next) prefetch_values(0, kMaxLanes);
    f(values);
  };
  dispatch_element(layout_->values.element, plain, [&]<class Code>() {
    if constexpr (Code::kHasLow) {
      if (in_bytes(layout_->values)) return accumulate_bytes<Code>();
    }
    const std::int64_t stride = layout_->value_stride();
    Operand<float> values(stride);
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
      float* to = unpacked_ + j * kLanes * stride;
      unpack_values(*layout_, lanes.page, lanes.lane, to, stride);
      values.lanes[static_cast<std::size_t>(j)] = to;
    }
    f(values);
  });
}

template <class T>
void AttentionTile::score(const Operand<T>& keys) {
  constexpr std::int64_t kStride = kMaxLanes * kLanes;
  score_rows(q_, num_rows_, head_dim_, layout_->scored_channels(), keys.lanes.data(), num_lanes_,
             keys.stride, scores_, kStride, keys.has_next ? keys.next.data() : nullptr);
}

void AttentionTile::mask() {
  for (std::int64_t j = 0; j < num_lanes_; ++j) {
    const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
    if (!lanes.masked) continue;
    const auto positions = load_as<I32x16>(lanes.positions);
    for (std::int64_t row = 0; row < num_rows_; ++row) {
      const std::int32_t p = row_positions_[row];
      I32x16 readable = positions <= p;
      if (window_) readable &= positions > p - *window_;
      float* scores = scores_ + (row * kMaxLanes + j) * kLanes;
      store(scores, readable ? load(scores) : broadcast(kMinusInfinity));
    }
  }
}

void AttentionTile::store_scores() const {
  for (std::int64_t j = 0; j < num_lanes_; ++j) {
    float* to = lanes_[static_cast<std::size_t>(j)].scores;
    if (to == nullptr) continue;
    for (std::int64_t row = 0; row < num_rows_; ++row) {
      store(to + row * kLanes, load(scores_ + (row * kMaxLanes + j) * kLanes));
    }
  }
}

void AttentionTile::update_softmax() {
  const bool in_bytes_next = in_bytes(layout_->values);
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    float* scores = scores_ + row * kMaxLanes * kLanes;
    F32x16 largest = load(scores);
    for (std::int64_t j = 1; j < num_lanes_; ++j) largest = max(largest, load(scores + j * kLanes));
    const float largest_here = max(largest);
    const float new_largest = std::max(largest_[row], largest_here);
    if (new_largest == kMinusInfinity) {  // nothing readable yet: the weights are zero
      for (std::int64_t j = 0; j < num_lanes_; ++j) store(scores + j * kLanes, F32x16{});
      if (in_bytes_next) peaks_[row] = 0.0f;
      continue;
    }
    if (in_bytes_next) {
      peaks_[row] = largest_here == new_largest ? 1.0f : std::exp(largest_here - new_largest);
    }
    float* total = total_ + row * kLanes;
    if (largest_[row] != new_largest) {
      const float shrink = std::exp(largest_[row] - new_largest);
      store(total, load(total) * shrink);
      float* o = o_ + row * value_stride_;
      for (std::int64_t c = 0; c < value_stride_; c += kVecLanes)
        store(o + c, load(o + c) * shrink);
      largest_[row] = new_largest;
    }
    F32x16 more{};
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      const F32x16 weight = exp(load(scores + j * kLanes) - new_largest);
      store(scores + j * kLanes, weight);
      more += weight;
    }
    store(total, load(total) + more);
  }
}

template <class T>
void AttentionTile::accumulate(const Operand<T>& operand) {
  constexpr std::int64_t kStride = kMaxLanes * kLanes;
  std::array<std::int64_t, kMaxLanes> num_slots{};
  for (std::size_t j = 0; j < kMaxLanes; ++j) num_slots[j] = lanes_[j].num_slots;
  std::int64_t channel = 0;
  const auto channels_of = [&]<int kVectors>() {
    std::array<const T*, kMaxLanes> values{};
    std::array<const T*, kMaxLanes> next{};
    for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
      values[j] = operand.lanes[j] + channel;
      if (operand.has_next) next[j] = operand.next[j] + channel;
    }
    std::int64_t row = 0;
    const auto rows_of = [&]<int kRows>() {
      value_block<kRows, kVectors>(scores_ + row * kStride, kStride, values.data(),
                                   num_slots.data(), num_lanes_, operand.stride,
                                   o_ + row * value_stride_ + channel, value_stride_,
                                   operand.has_next && row == 0 ? next.data() : nullptr);
      row += kRows;
    };
    while (row + 6 <= num_rows_) rows_of.template operator()<6>();
    if (row + 4 <= num_rows_) rows_of.template operator()<4>();
    while (row < num_rows_) rows_of.template operator()<1>();
    channel += kVectors * kVecLanes;
  };
  const auto blocks_of = [&]<int kVectors>() {
    while (channel + kVectors * kVecLanes <= operand.stride) {
      channels_of.template operator()<kVectors>();
    }
  };
  num_rows_ < 4 ? blocks_of.template operator()<kBlockVectors<1>>()
                : blocks_of.template operator()<kBlockVectors<4>>();
  blocks_of.template operator()<1>();
}

float AttentionTile::finish(std::int64_t row, float* o) const {
  const float total = sum(load(total_ + row * kLanes));
  if (total == 0.0f) {
    std::fill_n(o, head_dim_, 0.0f);
    return kMinusInfinity;
  }
  const float scale = 1.0f / total;
  const float* sums = o_ + row * value_stride_;
  for (std::int64_t d = 0; d < head_dim_; ++d) o[d] = sums[d] * scale;
  return largest_[row] + std::log(total);
}

}  // namespace pikv::kernels::cpu
