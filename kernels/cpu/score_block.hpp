// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Products of query rows with the keys of a few vectors of slots, in blocks that stay in registers.
#pragma once

#include <cstdint>

#include "kernels/common/page_layout.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {

/// scores[r, lane] = q[r, :] . k[:, lane] for kRows rows and kLaneVectors vectors of lanes, over
/// `channels` > 0 of both. `next`: keys to be asked for on the way, or null.
template <int kRows, int kLaneVectors, class T>
void score_block(const float* q, std::int64_t q_stride, std::int64_t channels, const T* const* keys,
                 std::int64_t key_stride, float* scores, std::int64_t score_stride,
                 const T* const* next) {
  F32x16 acc[std::size_t{kRows}][std::size_t{kLaneVectors}];
  // The first channel sets the sums: GCC would clear them in memory, and load them from there.
  for (int r = 0; r < kRows; ++r) {
    const F32x16 qv = broadcast(q[r * q_stride]);
    for (int j = 0; j < kLaneVectors; ++j) acc[r][j] = qv * load(keys[j]);
  }
  for (std::int64_t d = 1; d < channels; ++d) {
    F32x16 k[std::size_t{kLaneVectors}];
    for (int j = 0; j < kLaneVectors; ++j) k[j] = load(keys[j] + d * key_stride);
    if (next != nullptr) {
      for (int j = 0; j < kLaneVectors; ++j) __builtin_prefetch(next[j] + d * key_stride, 0, 2);
    }
    for (int r = 0; r < kRows; ++r) {
      const F32x16 qv = broadcast(q[r * q_stride + d]);
      for (int j = 0; j < kLaneVectors; ++j) acc[r][j] += qv * k[j];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kLaneVectors; ++j) {
      store(scores + r * score_stride + j * kLanes, acc[r][j]);
    }
  }
}

/// scores[r, lane] = q[r, :] . k[:, lane] for any number of rows [num_rows, q_stride] and of
/// vectors of lanes, over the first `channels`; channel d of vector j at keys[j] + d * key_stride.
/// `next`: as many vectors that are read next; asking for them a little at a time, while others are
/// worked off, keeps memory busy, where asking for all at once would wait for most of them.
template <class T>
void score_rows(const float* q, std::int64_t num_rows, std::int64_t q_stride, std::int64_t channels,
                const T* const* keys, std::int64_t num_lanes, std::int64_t key_stride,
                float* scores, std::int64_t score_stride, const T* const* next = nullptr) {
  std::int64_t row = 0;
  const auto rows_of = [&]<int kRows>() {
    std::int64_t j = 0;
    const auto lanes_of = [&]<int kLaneVectors>() {
      score_block<kRows, kLaneVectors>(q + row * q_stride, q_stride, channels, keys + j, key_stride,
                                       scores + row * score_stride + j * kLanes, score_stride,
                                       next != nullptr && row == 0 ? next + j : nullptr);
      j += kLaneVectors;
    };
    constexpr int kMost = kBlockVectors<kRows>;
    while (j + kMost <= num_lanes) lanes_of.template operator()<kMost>();
    if constexpr (kMost > 2) {
      if (j + 2 <= num_lanes) lanes_of.template operator()<2>();
    }
    if (j < num_lanes) lanes_of.template operator()<1>();
    row += kRows;
  };
  while (row + 6 <= num_rows) rows_of.template operator()<6>();
  if (row + 4 <= num_rows) rows_of.template operator()<4>();
  while (row < num_rows) rows_of.template operator()<1>();
}

}  // namespace pikv::kernels::cpu
