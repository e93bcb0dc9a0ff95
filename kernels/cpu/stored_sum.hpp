// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The columns of slots from scores that attention stored.
#pragma once

#include <cstdint>

#include "kernels/attention_columns.hpp"
#include "kernels/cpu/simd.hpp"
#include "kernels/cpu/stream_pages.hpp"

namespace pikv::kernels::cpu {

/// The case of every decode step with H2O: one row, its scores at hand, one sum.
class StoredSum {
 public:
  StoredSum(const AttentionColumnsArgs& args, std::int64_t row, std::int64_t kv_head,
            const float* scores)
      : args_(args),
        group_(args.q.extent(1) / args.num_kv_heads),
        position_(args.positions.data[row]),
        lse_(args.lse.row(row) + kv_head * group_),
        scores_(scores) {}

  /// Page by page, in the order of the scores.
  void add(const StreamPage& page) {
    const float share = 1.0f / static_cast<float>(group_);
    const auto* positions =
        reinterpret_cast<const std::int32_t*>(page.data + page.layout.position_offset());
    auto* sums = reinterpret_cast<float*>(page.data + page.layout.columns_offset());
    for (std::int32_t lane = 0; lane < page.layout.num_slots; lane += kLanes) {
      const auto held = load_as<I32x16>(positions + lane);
      I32x16 readable = held <= position_;
      if (args_.window) readable &= held > position_ - *args_.window;
      F32x16 total{};
      for (std::int64_t g = 0; g < group_; ++g, scores_ += kLanes) {
        total += exp(load(scores_) - lse_[g]);
      }
      store(sums + lane, load(sums + lane) + (readable ? total * share : F32x16{}));
    }
  }

 private:
  const AttentionColumnsArgs& args_;
  std::int64_t group_;
  std::int32_t position_;
  const float* lse_;
  const float* scores_;  // of the next page
};

}  // namespace pikv::kernels::cpu
