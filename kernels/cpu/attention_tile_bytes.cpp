// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores and weighted sums of the tile with integers, for few rows: codes are multiplied as they
// are, four at a time, and their scales go to the other factor. With x = low + scale * code,
//
//   q . k_j       = sum_d (q_d scale_d) code_dj + q . low          scales along channels of keys
//   sum_j p_j v_j = sum_j (p_j scale_j) code_jc + sum_j p_j low_j  scales along slots of values
//
// and where scales run the other way they are applied to the sum of a group. The other factor is
// rounded to 15 bits of the largest product of its group, as two bytes: high * 128 + low.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/codes.hpp"
#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// The largest number of two bytes, 127 * 128.
constexpr float kLargestFactor = 16256.0f;

/// Codes 0 ... 15 of the sixteen numbers that lie in consecutive words, in the order in which
/// masked words have them, byte by byte: every (n / 4)-th of the n codes of a word.
template <class Code>
I32x16 in_byte_order(I32x16 v) {
  if constexpr (Code::kPerWord == 4) return v;
  if constexpr (Code::kPerWord == 8) {
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  }
  return __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

/// Sixteen factors in units of the step, as two runs of bytes.
template <class Code>
void store_factors(F32x16 factors, std::uint32_t* high, std::uint32_t* low) {
  const I32x16 x = in_byte_order<Code>(nearest(factors));
  const I32x16 h = (x + 64) >> 7;
  store_low_bytes(high, h);
  store_low_bytes(low, x - (h << 7));
}

/// Byte i of the words: codes i, i + n / 4, ... of each.
template <class Code>
U32x16 masked(U32x16 words, std::uint32_t i) {
  if constexpr (Code::kPerWord == 4) return words;
  return (words >> (i * static_cast<std::uint32_t>(Code::kNumBits))) & (Code::kMask * 0x01010101u);
}

F32x16 to_float(I32x16 v) { return __builtin_convertvector(v, F32x16); }

/// Products of kRows rows, of their high and of their low bytes.
template <int kRows>
struct Products {
  I32x16 high[std::size_t{kRows}] = {};
  I32x16 low[std::size_t{kRows}] = {};

  [[nodiscard]] F32x16 of_row(int r) const { return to_float(high[r]) * 128.0f + to_float(low[r]); }
};

/// Products of kRows rows of factors with words of codes that lie `word_stride` apart.
/// Row r has `factor_stride` words of bytes, high ones first, low ones at `low_offset`.
template <class Code, int kRows>
void dot_words(const std::byte* words, std::ptrdiff_t word_stride, std::ptrdiff_t num_words,
               const std::uint32_t* factors, std::ptrdiff_t factor_stride,
               std::ptrdiff_t low_offset, Products<kRows>& products) {
  constexpr auto kMasks = static_cast<std::uint32_t>(Code::kPerWord / 4);
  for (std::ptrdiff_t w = 0; w < num_words; ++w) {
    const auto codes = load_as<U32x16>(words + w * word_stride * 4);
    for (std::uint32_t i = 0; i < kMasks; ++i) {
      const U32x16 bytes = masked<Code>(codes, i);
      for (int r = 0; r < kRows; ++r) {
        const std::uint32_t* at = factors + r * factor_stride;
        products.high[r] = dot_bytes(products.high[r], bytes, at[0]);
        products.low[r] = dot_bytes(products.low[r], bytes, at[low_offset]);
      }
      ++factors;
    }
  }
}

/// Calls f.operator()<kRows>(first_row) so that all rows are covered.
template <class F>
void in_row_blocks(std::int64_t num_rows, const F& f) {
  std::int64_t row = 0;
  for (; row + 4 <= num_rows; row += 4) f.template operator()<4>(row);
  for (; row + 2 <= num_rows; row += 2) f.template operator()<2>(row);
  for (; row < num_rows; ++row) f.template operator()<1>(row);
}

}  // namespace

/// Queries in units of their largest channel.
void AttentionTile::prepare_units() {
  if (units_ready_) return;
  units_ready_ = true;
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    const float* q = q_ + row * head_dim_;
    float largest = 0.0f;
    for (std::int64_t d = 0; d < head_dim_; ++d) largest = std::max(largest, std::abs(q[d]));
    q_steps_[row] = largest / kLargestFactor;
    const float inverse = largest > 0.0f ? kLargestFactor / largest : 0.0f;
    float* unit = q_units_ + row * value_stride_;
    std::fill_n(unit, value_stride_, 0.0f);
    for (std::int64_t d = 0; d < head_dim_; ++d) unit[d] = q[d] * inverse;
  }
}

template <class Code>
void AttentionTile::score_bytes() {
  prepare_units();
  const ElementForm& form = layout_->keys;
  if (form.axis == ScaleAxis::kPerChannel) {
    const std::byte* page = nullptr;
    std::int64_t group = -1;
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
      if (lanes.page != page || lanes.lane / form.group != group) {
        page = lanes.page;
        group = lanes.lane / form.group;
        fold_scales<Code>(page, group);
      }
      prefetch_keys(j, j + 1);
      score_lanes<Code>(j);
    }
  } else {
    for (std::int64_t row = 0; row < num_rows_; ++row) {
      std::uint32_t* bytes = factors_ + row * value_stride_ / 2;
      for (std::int64_t d = 0; d < value_stride_; d += kVecLanes) {
        store_factors<Code>(load(q_units_ + row * value_stride_ + d), bytes + d / 4,
                            bytes + (value_stride_ + d) / 4);
      }
    }
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      prefetch_keys(j, j + 1);
      score_lanes_of_slots<Code>(j);
    }
  }
}

/// Queries times the scales of a group of slots, as bytes, and what their lows add to each score.
template <class Code>
void AttentionTile::fold_scales(const std::byte* page, std::int64_t group) {
  const auto [scales_of_page, lows_of_page] = key_scales(*layout_, page);
  const std::int64_t channels = layout_->key_channels();
  const std::int64_t stride = layout_->key_stride();
  const Half* scales = scales_of_page + group * stride;
  const Half* lows = lows_of_page + group * stride;
  F32x16 largest{};
  for (std::int64_t d = 0; d < stride; d += kVecLanes) {
    // What pads the channels has no scale.
    const F32x16 scale =
        d + kVecLanes <= channels ? load(scales + d) : load_first(scales + d, channels - d);
    store(unit_scales_ + d, scale);
    largest = max(largest, scale);
  }
  const float widest = max(largest);
  const float inverse = widest > 0.0f ? 1.0f / widest : 0.0f;
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    const float* unit = q_units_ + row * value_stride_;
    std::uint32_t* bytes = factors_ + row * value_stride_ / 2;
    F32x16 sum_of_lows{};
    for (std::int64_t d = 0; d < stride; d += kVecLanes) {
      const F32x16 q = load(unit + d);
      store_factors<Code>(q * (load(unit_scales_ + d) * inverse), bytes + d / 4,
                          bytes + (value_stride_ + d) / 4);
      const F32x16 low =
          d + kVecLanes <= channels ? load(lows + d) : load_first(lows + d, channels - d);
      sum_of_lows += q * low;
    }
    steps_[row] = q_steps_[row] * widest;
    biases_[row] = q_steps_[row] * sum(sum_of_lows);
  }
}

template <class Code>
void AttentionTile::score_lanes(std::int64_t j) {
  const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
  const std::ptrdiff_t num_words = (layout_->key_channels() + Code::kPerWord - 1) / Code::kPerWord;
  in_row_blocks(num_rows_, [&]<int kRows>(std::int64_t row) {
    Products<kRows> products;
    dot_words<Code, kRows>(lanes.page + lanes.lane * 4, layout_->num_slots, num_words,
                           factors_ + row * value_stride_ / 2, value_stride_ / 2, value_stride_ / 4,
                           products);
    for (int r = 0; r < kRows; ++r) {
      store(scores_ + ((row + r) * kMaxLanes + j) * kLanes,
            products.of_row(r) * steps_[row + r] + biases_[row + r]);
    }
  });
}

/// Scales along slots: each group of channels has a sum of its own.
template <class Code>
void AttentionTile::score_lanes_of_slots(std::int64_t j) {
  const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
  const std::int64_t group = layout_->keys.group;
  const auto [scales, lows] = key_scales(*layout_, lanes.page);
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    store(scores_ + (row * kMaxLanes + j) * kLanes, F32x16{});
  }
  const std::int64_t channels = layout_->key_channels();
  for (std::int64_t begin = 0; begin < channels; begin += group) {
    const std::int64_t end = std::min(begin + group, channels);
    const std::ptrdiff_t num_words = (end - begin + Code::kPerWord - 1) / Code::kPerWord;
    const std::int64_t g = begin / group * layout_->num_slots + lanes.lane;
    const F32x16 scale = load(scales + g);
    const F32x16 low_of_group = load(lows + g);
    in_row_blocks(num_rows_, [&]<int kRows>(std::int64_t row) {
      Products<kRows> products;
      dot_words<Code, kRows>(
          lanes.page + (begin / Code::kPerWord * layout_->num_slots + lanes.lane) * 4,
          layout_->num_slots, num_words, factors_ + row * value_stride_ / 2 + begin / 4,
          value_stride_ / 2, value_stride_ / 4, products);
      for (int r = 0; r < kRows; ++r) {
        const float* unit = q_units_ + (row + r) * value_stride_;
        F32x16 total{};
        for (std::int64_t d = begin; d < end; d += kVecLanes) total += load(unit + d);
        float* score = scores_ + ((row + r) * kMaxLanes + j) * kLanes;
        store(score, load(score) + (products.of_row(r) * scale + low_of_group * sum(total)) *
                                       q_steps_[row + r]);
      }
    });
  }
}

template <class Code>
void AttentionTile::accumulate_bytes() {
  const ElementForm& form = layout_->values;
  const std::int64_t stride = layout_->value_stride();
  if (form.axis == ScaleAxis::kPerSlot) {
    for (std::int64_t c = 0; c < stride; c += form.group) {
      fold_weights<Code>(0, num_lanes_, c / form.group);
      const std::int64_t end = std::min<std::int64_t>(c + form.group, stride);
      add_values<Code>(0, num_lanes_, c, end, /*group=*/-1);
    }
    return;
  }
  // Scales along channels: lanes of one group of slots at a time.
  for (std::int64_t begin = 0; begin < num_lanes_;) {
    const Lanes& first = lanes_[static_cast<std::size_t>(begin)];
    const std::int64_t group = first.lane / form.group;
    std::int64_t end = begin + 1;
    for (; end < num_lanes_; ++end) {
      const Lanes& lanes = lanes_[static_cast<std::size_t>(end)];
      if (lanes.page != first.page || lanes.lane / form.group != group) break;
    }
    fold_weights<Code>(begin, end, /*group=*/-1);
    add_values<Code>(begin, end, 0, stride, group);
    begin = end;
  }
}

/// Weights of lanes [begin, end), times the scales of a group of channels unless it is -1, as
/// bytes; and what the lows add to each channel (or the sum of the weights).
template <class Code>
void AttentionTile::fold_weights(std::int64_t begin, std::int64_t end, std::int64_t group) {
  constexpr std::int64_t kStride = kMaxLanes * kLanes;
  F32x16 scale[std::size_t{kMaxLanes}];
  F32x16 low[std::size_t{kMaxLanes}];
  for (std::int64_t j = begin; j < end; ++j) {
    scale[j] = low[j] = broadcast(1.0f);
    if (group < 0) continue;
    const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
    const auto [scales, lows] = value_scales(*layout_, lanes.page);
    scale[j] = load(scales + group * layout_->num_slots + lanes.lane);
    low[j] = load(lows + group * layout_->num_slots + lanes.lane);
  }
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    F32x16 folded[std::size_t{kMaxLanes}];
    F32x16 largest{};
    F32x16 bias{};
    for (std::int64_t j = begin; j < end; ++j) {
      const F32x16 weight = load(scores_ + row * kStride + j * kLanes);
      folded[j] = weight * scale[j];
      bias += weight * low[j];
      largest = max(largest, folded[j]);
    }
    const float widest = max(largest);
    const float inverse = widest > 0.0f ? kLargestFactor / widest : 0.0f;
    steps_[row] = widest / kLargestFactor;
    biases_[row] = sum(bias);
    std::uint32_t* bytes = factors_ + row * (kStride / 2);
    for (std::int64_t j = begin; j < end; ++j) {
      store_factors<Code>(folded[j] * inverse, bytes + j * kLanes / 4,
                          bytes + (kStride + j * kLanes) / 4);
    }
  }
}

/// o += what lanes [begin, end) have in channels [c, c_end); `group`: of slots, where scales run
/// along channels, or -1.
template <class Code>
void AttentionTile::add_values(std::int64_t begin, std::int64_t end, std::int64_t c,
                               std::int64_t c_end, std::int64_t group) {
  constexpr std::int64_t kStride = kMaxLanes * kLanes;
  const std::int64_t stride = layout_->value_stride();
  for (; c < c_end; c += kVecLanes) {
    prefetch_values(kMaxLanes * c / stride, kMaxLanes * (c + kVecLanes) / stride);
    in_row_blocks(num_rows_, [&]<int kRows>(std::int64_t row) {
      Products<kRows> products;
      for (std::int64_t j = begin; j < end; ++j) {
        const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
        dot_words<Code, kRows>(
            lanes.page + layout_->value_offset() + (lanes.lane / Code::kPerWord * stride + c) * 4,
            stride, kLanes / Code::kPerWord, factors_ + row * (kStride / 2) + j * kLanes / 4,
            kStride / 2, kStride / 4, products);
      }
      F32x16 scale{};
      F32x16 low_of_channel{};
      if (group >= 0) {
        const auto [scales, lows] =
            value_scales(*layout_, lanes_[static_cast<std::size_t>(begin)].page);
        scale = load(scales + group * stride + c);
        low_of_channel = load(lows + group * stride + c);
      }
      for (int r = 0; r < kRows; ++r) {
        float* o = o_ + (row + r) * value_stride_ + c;
        const F32x16 product = products.of_row(r) * steps_[row + r];
        store(o, load(o) + (group >= 0 ? product * scale + low_of_channel * biases_[row + r]
                                       : product + biases_[row + r]));
      }
    });
  }
}

template void AttentionTile::score_bytes<Int8Code>();
template void AttentionTile::score_bytes<Int4Code>();
template void AttentionTile::score_bytes<Int2Code>();
template void AttentionTile::accumulate_bytes<Int8Code>();
template void AttentionTile::accumulate_bytes<Int4Code>();
template void AttentionTile::accumulate_bytes<Int2Code>();

}  // namespace pikv::kernels::cpu
