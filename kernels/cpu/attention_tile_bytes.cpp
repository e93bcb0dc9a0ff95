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
#include <array>
#include <cmath>

#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/codes.hpp"
#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// The largest number of two bytes, 127 * 128.
constexpr float kLargestFactor = 16256.0f;

// Products of weights and scales below this are nothing beside a weight of one, and their inverses
// would leave float32.
constexpr float kVanishing = 1e-30f;

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

F32x16 to_float(I32x16 v) { return __builtin_convertvector(v, F32x16); }

/// Factors in units of the step, vector by vector, as a run of high bytes and one of low bytes.
template <class Code, class F>
void store_factors(std::int64_t num_vectors, const F& factors_of, std::uint32_t* high,
                   std::uint32_t* low) {
  const auto codes_order = [&](std::int64_t vector) {
    return in_byte_order<Code>(nearest(factors_of(vector)));
  };
  std::int64_t i = 0;
  for (; i + 4 <= num_vectors; i += 4) {
    const I32x16 x[4] = {codes_order(i), codes_order(i + 1), codes_order(i + 2),
                         codes_order(i + 3)};
    split_bytes(x, high + 4 * i, low + 4 * i);
  }
  for (; i < num_vectors; ++i) split_bytes(codes_order(i), high + 4 * i, low + 4 * i);
}

/// Byte i of the words: codes i, i + n / 4, ... of each.
template <class Code>
U32x16 masked(U32x16 words, std::uint32_t i) {
  if constexpr (Code::kPerWord == 4) return words;
  return (words >> (i * static_cast<std::uint32_t>(Code::kNumBits))) & (Code::kMask * 0x01010101u);
}

/// Products of kRows rows and kVectors vectors, of high and of low bytes.
template <int kRows, int kVectors>
struct Products {
  // One by one: GCC would clear the whole in memory.
  Products() {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) high[r][v] = low[r][v] = I32x16{};
    }
  }
  I32x16 high[std::size_t{kRows}][std::size_t{kVectors}];
  I32x16 low[std::size_t{kRows}][std::size_t{kVectors}];

  [[nodiscard]] F32x16 at(int r, int v) const {
    return to_float(high[r][v]) * 128.0f + to_float(low[r][v]);
  }
};

/// Products of kRows rows of factors with words of codes that lie `word_stride` apart, and with the
/// kVectors - 1 vectors of words beside them: a factor that was loaded serves them all, for loads
/// run out before multiplications do. Row r has `factor_stride` words of bytes, high ones first,
/// low ones at `low_offset`.
template <class Code, int kRows, int kVectors>
[[gnu::always_inline]] inline void dot_words(const std::byte* words, std::ptrdiff_t word_stride,
                                             std::ptrdiff_t num_words, const std::uint32_t* factors,
                                             std::ptrdiff_t factor_stride,
                                             std::ptrdiff_t low_offset,
                                             const std::byte* const* next,
                                             Products<kRows, kVectors>& products) {
  constexpr auto kMasks = static_cast<std::uint32_t>(Code::kPerWord / 4);
  for (std::ptrdiff_t w = 0; w < num_words; ++w) {
    U32x16 codes[std::size_t{kVectors}];
    for (int v = 0; v < kVectors; ++v) {
      codes[v] = load_as<U32x16>(words + (w * word_stride + v * kVecLanes) * 4);
      __builtin_prefetch(next[v] + w * word_stride * 4, 0, 2);
    }
    for (std::uint32_t i = 0; i < kMasks; ++i) {
      U32x16 bytes[std::size_t{kVectors}];
      for (int v = 0; v < kVectors; ++v) bytes[v] = masked<Code>(codes[v], i);
      for (int r = 0; r < kRows; ++r) {
        const std::uint32_t* at = factors + r * factor_stride;
        for (int v = 0; v < kVectors; ++v) {
          products.high[r][v] = dot_bytes(products.high[r][v], bytes[v], at[0]);
        }
        for (int v = 0; v < kVectors; ++v) {
          products.low[r][v] = dot_bytes(products.low[r][v], bytes[v], at[low_offset]);
        }
      }
      ++factors;
    }
  }
}

/// Calls f.operator()<kRows, kVectors>(first_row, first_vector) so that all rows and all vectors
/// from `begin` to `end` are covered.
template <class F>
void in_blocks(std::int64_t num_rows, std::int64_t begin, std::int64_t end, const F& f) {
  std::int64_t row = 0;
  const auto rows_of = [&]<int kRows>() {
    std::int64_t v = begin;
    for (; v + 2 <= end; v += 2) f.template operator()<kRows, 2>(row, v);
    for (; v < end; ++v) f.template operator()<kRows, 1>(row, v);
    row += kRows;
  };
  while (row + 4 <= num_rows) rows_of.template operator()<4>();
  while (row + 2 <= num_rows) rows_of.template operator()<2>();
  while (row < num_rows) rows_of.template operator()<1>();
}

}  // namespace

/// Queries in units of their largest channel.
void AttentionTile::prepare_units() {
  if (units_ready_) return;
  units_ready_ = true;
  const std::int64_t num_vectors = value_stride_ / kVecLanes;
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    const float* q = q_ + row * head_dim_;
    float largest = 0.0f;
    for (std::int64_t d = 0; d < head_dim_; ++d) largest = std::max(largest, std::abs(q[d]));
    q_steps_[row] = largest / kLargestFactor;
    const float inverse = largest > 0.0f ? kLargestFactor / largest : 0.0f;
    float* unit = q_units_ + row * value_stride_;
    std::fill_n(unit, value_stride_, 0.0f);
    for (std::int64_t d = 0; d < head_dim_; ++d) unit[d] = q[d] * inverse;
    for (std::int64_t v = 0; v < num_vectors; ++v) {
      q_sums_[row * num_vectors + v] = sum(load(unit + v * kVecLanes));
    }
  }
}

/// The end of the lanes from `begin` on that lie side by side in one page and one of its groups of
/// `group` slots.
std::int64_t AttentionTile::run_of_page(std::int64_t begin, std::int64_t group) const {
  const Lanes& first = lanes_[static_cast<std::size_t>(begin)];
  std::int64_t end = begin + 1;
  for (; end < num_lanes_; ++end) {
    const Lanes& lanes = lanes_[static_cast<std::size_t>(end)];
    if (lanes.page != first.page || lanes.lane != first.lane + (end - begin) * kLanes ||
        lanes.lane / group != first.lane / group) {
      break;
    }
  }
  return end;
}

template <class Code>
void AttentionTile::score_bytes() {
  prepare_units();
  const ElementForm& form = layout_->keys;
  const bool per_channel = form.axis == ScaleAxis::kPerChannel;
  if (!per_channel) {
    for (std::int64_t row = 0; row < num_rows_; ++row) {
      std::uint32_t* bytes = factors_ + row * value_stride_ / 2;
      const float* unit = q_units_ + row * value_stride_;
      store_factors<Code>(
          value_stride_ / kVecLanes, [&](std::int64_t v) { return load(unit + v * kVecLanes); },
          bytes, bytes + value_stride_ / 4);
    }
  }
  // First the factors of all groups, for each waits for its largest scale: side by side they wait
  // together.
  for (std::int64_t j = 0; j < num_queued_; ++j) prefetch_key_scales(j);
  std::array<std::int64_t, kMaxLanes + 1> ends{};
  std::size_t num_runs = 0;
  for (std::int64_t begin = 0; begin < num_lanes_; begin = ends[num_runs]) {
    const Lanes& first = lanes_[static_cast<std::size_t>(begin)];
    if (per_channel) {
      fold_scales<Code>(first.page, first.lane / form.group, static_cast<std::int64_t>(num_runs));
    }
    ends[++num_runs] = run_of_page(begin, per_channel ? form.group : layout_->num_slots);
  }
  for (std::size_t run = 0; run < num_runs; ++run) {
    if (per_channel) {
      score_lanes<Code>(ends[run], ends[run + 1], static_cast<std::int64_t>(run));
    } else {
      score_lanes_of_slots<Code>(ends[run], ends[run + 1]);
    }
  }
}

/// Queries times the scales of a group of slots, as bytes, and what their lows add to each score.
template <class Code>
void AttentionTile::fold_scales(const std::byte* page, std::int64_t group, std::int64_t run) {
  const auto [scales_of_page, lows_of_page] = key_scales(*layout_, page);
  const std::int64_t channels = layout_->key_channels();
  const std::int64_t stride = layout_->key_stride();
  const Half* scales = scales_of_page + group * stride;
  const Half* lows = lows_of_page + group * stride;
  // What pads the channels has no scale.
  const auto first_channels = [&](const Half* from, std::int64_t d) {
    return d + kVecLanes <= channels ? load(from + d) : load_first(from + d, channels - d);
  };
  F32x16 largest{};
  for (std::int64_t d = 0; d < stride; d += kVecLanes) {
    const F32x16 scale = first_channels(scales, d);
    store(unit_scales_ + d, scale);
    largest = max(largest, scale);
  }
  const float widest = max(largest);
  const float inverse = widest > 0.0f ? 1.0f / widest : 0.0f;
  for (std::int64_t d = 0; d < stride; d += kVecLanes) {
    store(unit_scales_ + d, load(unit_scales_ + d) * inverse);
  }
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    const float* unit = q_units_ + row * value_stride_;
    F32x16 sum_of_lows{};
    for (std::int64_t d = 0; d < stride; d += kVecLanes) {
      sum_of_lows += load(unit + d) * first_channels(lows, d);
    }
    std::uint32_t* bytes = factors_ + (run * num_rows_ + row) * value_stride_ / 2;
    store_factors<Code>(
        stride / kVecLanes,
        [&](std::int64_t v) {
          return load(unit + v * kVecLanes) * load(unit_scales_ + v * kVecLanes);
        },
        bytes, bytes + value_stride_ / 4);
    steps_[run * num_rows_ + row] = q_steps_[row] * widest;
    biases_[run * num_rows_ + row] = q_steps_[row] * sum(sum_of_lows);
  }
}

template <class Code>
void AttentionTile::score_lanes(std::int64_t begin, std::int64_t end, std::int64_t run) {
  const std::ptrdiff_t num_words = (layout_->key_channels() + Code::kPerWord - 1) / Code::kPerWord;
  in_blocks(num_rows_, begin, end, [&]<int kRows, int kVectors>(std::int64_t row, std::int64_t j) {
    const std::byte* next[std::size_t{kVectors}];
    for (int v = 0; v < kVectors; ++v) next[v] = first_word(lanes_after(j + v));
    Products<kRows, kVectors> products;
    const std::int64_t of_run = run * num_rows_ + row;
    dot_words<Code>(first_word(lanes_[static_cast<std::size_t>(j)]), layout_->num_slots, num_words,
                    factors_ + of_run * value_stride_ / 2, value_stride_ / 2, value_stride_ / 4,
                    next, products);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        store(scores_ + ((row + r) * kMaxLanes + j + v) * kLanes,
              products.at(r, v) * steps_[of_run + r] + biases_[of_run + r]);
      }
    }
  });
}

/// Scales along slots: each group of channels has a sum of its own.
template <class Code>
void AttentionTile::score_lanes_of_slots(std::int64_t begin, std::int64_t end) {
  const std::int64_t group = layout_->keys.group;
  const auto [scales, lows] = key_scales(*layout_, lanes_[static_cast<std::size_t>(begin)].page);
  const std::int64_t channels = layout_->key_channels();
  const std::int64_t num_vectors = value_stride_ / kVecLanes;
  for (std::int64_t first = 0; first < channels; first += group) {
    const std::int64_t last = std::min(first + group, channels);
    const std::ptrdiff_t num_words = (last - first + Code::kPerWord - 1) / Code::kPerWord;
    const std::ptrdiff_t words_begin = first / Code::kPerWord * layout_->num_slots * 4;
    for (std::int64_t row = 0; row < num_rows_; ++row) {  // what a low is multiplied by
      biases_[row] = 0.0f;
      for (std::int64_t v = first / kVecLanes; v * kVecLanes < last; ++v) {
        biases_[row] += q_sums_[row * num_vectors + v];
      }
    }
    in_blocks(num_rows_, begin, end,
              [&]<int kRows, int kVectors>(std::int64_t row, std::int64_t j) {
                const std::byte* next[std::size_t{kVectors}];
                for (int v = 0; v < kVectors; ++v)
                  next[v] = first_word(lanes_after(j + v)) + words_begin;
                const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
                Products<kRows, kVectors> products;
                dot_words<Code>(first_word(lanes) + words_begin, layout_->num_slots, num_words,
                                factors_ + row * value_stride_ / 2 + first / 4, value_stride_ / 2,
                                value_stride_ / 4, next, products);
                const std::int64_t of_group = first / group * layout_->num_slots + lanes.lane;
                for (int v = 0; v < kVectors; ++v) {
                  const F32x16 scale = load(scales + of_group + v * kVecLanes);
                  const F32x16 low = load(lows + of_group + v * kVecLanes);
                  for (int r = 0; r < kRows; ++r) {
                    const F32x16 product =
                        (products.at(r, v) * scale + low * biases_[row + r]) * q_steps_[row + r];
                    float* score = scores_ + ((row + r) * kMaxLanes + j + v) * kLanes;
                    store(score, first == 0 ? product : load(score) + product);
                  }
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
    const std::int64_t end = run_of_page(begin, form.group);
    fold_weights<Code>(begin, end, /*group=*/-1);
    add_values<Code>(begin, end, 0, stride,
                     lanes_[static_cast<std::size_t>(begin)].lane / form.group);
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
  F32x16 largest{};
  for (std::int64_t j = begin; j < end; ++j) {
    scale[j] = low[j] = broadcast(1.0f);
    if (group >= 0) {
      const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
      const auto [scales, lows] = value_scales(*layout_, lanes.page);
      scale[j] = load(scales + group * layout_->num_slots + lanes.lane);
      low[j] = load(lows + group * layout_->num_slots + lanes.lane);
    }
    largest = max(largest, scale[j]);
  }
  const float widest_scale = max(largest);
  for (std::int64_t row = 0; row < num_rows_; ++row) {
    const float* weights = scores_ + row * kStride;
    F32x16 bias{};
    for (std::int64_t j = begin; j < end; ++j) bias += load(weights + j * kLanes) * low[j];
    biases_[row] = sum(bias);
    // No product is larger than this one; the largest itself would take longer to find.
    const float widest = peaks_[row] * widest_scale;
    const float inverse = widest > kVanishing ? kLargestFactor / widest : 0.0f;
    steps_[row] = widest / kLargestFactor;
    std::uint32_t* bytes = factors_ + row * (kStride / 2) + begin * kLanes / 4;
    store_factors<Code>(
        end - begin,
        [&](std::int64_t v) {
          return load(weights + (begin + v) * kLanes) * (scale[begin + v] * inverse);
        },
        bytes, bytes + kStride / 4);
  }
}

/// o += what lanes [begin, end) have in channels [c, c_end); `group`: of slots, where scales run
/// along channels, or -1.
template <class Code>
void AttentionTile::add_values(std::int64_t begin, std::int64_t end, std::int64_t c_begin,
                               std::int64_t c_end, std::int64_t group) {
  constexpr std::int64_t kStride = kMaxLanes * kLanes;
  const std::int64_t stride = layout_->value_stride();
  const std::size_t values_begin = layout_->value_offset();
  for (std::int64_t j = begin; j < std::min(end, num_queued_); ++j) prefetch_value_scales(j);
  in_blocks(num_rows_, c_begin / kVecLanes, c_end / kVecLanes,
            [&]<int kRows, int kVectors>(std::int64_t row, std::int64_t vector) {
              const std::int64_t c = vector * kVecLanes;
              Products<kRows, kVectors> products;
              for (std::int64_t j = begin; j < end; ++j) {
                const auto words_of = [&](const Lanes& lanes) {
                  return lanes.page + values_begin + (lanes.lane / Code::kPerWord * stride + c) * 4;
                };
                const std::byte* after = words_of(lanes_after(j));
                const std::byte* next[std::size_t{kVectors}];
                for (int v = 0; v < kVectors; ++v) next[v] = after + v * 64;
                dot_words<Code>(words_of(lanes_[static_cast<std::size_t>(j)]), stride,
                                kLanes / Code::kPerWord,
                                factors_ + row * (kStride / 2) + j * kLanes / 4, kStride / 2,
                                kStride / 4, next, products);
              }
              for (int v = 0; v < kVectors; ++v) {
                F32x16 scale = broadcast(1.0f);
                F32x16 low = broadcast(1.0f);
                if (group >= 0) {
                  const auto [scales, lows] =
                      value_scales(*layout_, lanes_[static_cast<std::size_t>(begin)].page);
                  scale = load(scales + group * stride + c + v * kVecLanes);
                  low = load(lows + group * stride + c + v * kVecLanes);
                }
                for (int r = 0; r < kRows; ++r) {
                  float* o = o_ + (row + r) * value_stride_ + c + v * kVecLanes;
                  store(o, load(o) + products.at(r, v) * steps_[row + r] * scale +
                               low * biases_[row + r]);
                }
              }
            });
}

template void AttentionTile::score_bytes<Int8Code>();
template void AttentionTile::score_bytes<Int4Code>();
template void AttentionTile::score_bytes<Int2Code>();
template void AttentionTile::accumulate_bytes<Int8Code>();
template void AttentionTile::accumulate_bytes<Int4Code>();
template void AttentionTile::accumulate_bytes<Int2Code>();

}  // namespace pikv::kernels::cpu
