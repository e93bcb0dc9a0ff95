// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Partial attention of a batch of queries over paged KV streams, with its log-sum-exp:
//
//   score_j = scale * (q . k_j)   for every slot j that the query may read
//   lse     = log sum_j exp(score_j),   o = sum_j exp(score_j - lse) v_j
//
// A query at position p reads the slots with position in (p - window, p]; window is unbounded
// unless given. The streams of a segment are disjoint sets of slots, in any order; the result over
// their union is exact, and results over disjoint unions merge by merge_states. A query that may
// read nothing has o = 0 and lse = -inf.
//
// Prefill and decode are the same call: a segment is a run of rows of one sequence, one row long in
// decode. Query heads of one KV head (a group, G = H / Hkv; Ainslie et al. 2023, 2305.13245) read
// each key and value once.
//
// Cost: 4 T H D flops a slot; each page is read once per block of rows. The score matrix is never
// stored (Dao et al. 2022, 2205.14135). CPU: deterministic for equal threads and shapes. CUDA:
// deterministic for equal lengths on one GPU; head sizes up to 256, up to 8 forms of sealed pages.
//
// CUDA, segments of one row: divided over the whole GPU for heads of 64, 128 or 256 channels, all
// of them stored, in pages of one form: bf16, f16, or packed, keys with scales along channels and
// values along slots, in groups of 64 channels or more. Over 16-bit pages results are those of
// float32 sums; over packed ones factors are rounded to float16, whose range products of queries
// and scales may leave only in pages of 64 slots with groups of 64. Positions, segments, streams
// and their tables may be read while the operation before still runs, so that it may not write
// them: Exec::on_device brings them in time.
// CUDA, segments of many rows where Exec::product_dtype() is kBf16: on the tensor cores of Hopper
// (sm_90a), for heads of 64, 128 or 256 channels in plain pages of one form, bf16 or f16, and a
// positive scale; queries, weights and what is in open pages are rounded to that form (Shah et al.
// 2024, FlashAttention-3, 2407.08608). All else: one block a row and head, the form before tuning,
// in float32 (docs/gpu_performance.md).
//
// Keys that are stored as they were before RoPE (ElementForm::pre_rope) are rebuilt a few vectors
// of slots at a time: 2 D r flops a slot and block of rows, shared by the heads of a group. CPU
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// The pages of one stream, slots in any order. The open page, if there is one, is float32; the
/// others are sealed, each in one of the `sealed_layouts`. Streams of one KV head and segment have
/// one basis.
struct StreamView {
  std::byte* const* sealed_pages = nullptr;    // [num_sealed_pages]
  const std::uint8_t* sealed_forms = nullptr;  // [num_sealed_pages], which layout; null: the first
  std::int32_t num_sealed_pages = 0;
  /// Every slot of the sealed pages holds a position, none a later one, so that later queries need
  /// not look; kNoPosition: not known.
  std::int32_t last_sealed = kNoPosition;
  std::byte* open_page = nullptr;    // or null
  const float* key_basis = nullptr;  // [D, D], where sealed pages hold keys before RoPE

  /// Which of the layouts a sealed page has.
  [[nodiscard]] std::int64_t form_of(std::int64_t page) const {
    return sealed_forms != nullptr ? sealed_forms[page] : 0;
  }
};

/// Rows [row_begin, row_end) of q belong to one sequence, in ascending order of position. KV head h
/// reads streams[first_stream + h * num_streams ... + num_streams).
///
/// A segment of one row can have its scores stored for the columns of the slots: for each KV head
/// and each page of its streams in their order, P / kLanes tiles of [G, kLanes] floats; a slot that
/// is not read has any number. CPU only.
struct AttentionSegment {
  std::int32_t row_begin = 0;
  std::int32_t row_end = 0;
  std::int64_t first_stream = 0;
  std::int32_t num_streams = 0;
  float* scores = nullptr;
};

struct AttentionArgs {
  View<const float, 3> q;                    // [T, H, D]
  View<const std::int32_t, 1> positions;     // [T]
  View<const AttentionSegment, 1> segments;  // cover [0, T) without overlap
  View<const StreamView, 1> streams;
  std::int32_t num_kv_heads;                      // Hkv, divides H
  View<const PageLayout, 1> sealed_layouts;       // on the host
  PageLayout open_layout;                         // as these, in float32
  View<const float, 1> inverse_frequencies = {};  // [D / 2], where pages hold keys before RoPE
  float scale;
  std::optional<std::int32_t> window;  // > 0
  View<float, 3> o;                    // [T, H, D]
  View<float, 2> lse;                  // [T, H]
  bool single_rows = false;            // all segments are: spares a GPU looking for others
  /// Whether segments with scores also add their weights to the columns of the slots, bit for bit
  /// as attention_columns would afterwards with this lse: for rows that read nothing elsewhere. The
  /// scores are then still near the thread that computed them. CPU only.
  bool adds_to_columns = false;
  float column_decay = 0;  // of the decayed columns, in [0, 1)
};

void attention(Exec& exec, const AttentionArgs& args);

namespace cpu {
void attention(Exec& exec, const AttentionArgs& args);
}
namespace cuda {
void attention(Exec& exec, const AttentionArgs& args);
}

}  // namespace pikv::kernels
