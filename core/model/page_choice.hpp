// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Lets lone rows read the pages that a page reader chooses, out of those of all ranks.
//
// Each rank ranks the pages that it holds. Of each lone row and KV head it sends its best K to the
// other ranks with shards, K being how many are read in all; everyone then knows the K-th best of
// the whole, and reads what it holds of the better ones. A page is known by its bound and by its
// newest position, which no other page of the head has, so the order is total and the choice is the
// same for any number of ranks, as long as the shards are the same.
//
// One exchange a layer that is not read whole, of 4 + 8 min(K, pages) bytes a lone row, KV head and
// pair of ranks with shards; none in a group of one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/comm/communicator.hpp"
#include "core/model/attention_batch.hpp"
#include "core/policy/page_reader.hpp"

namespace pikv {

/// Of lone rows in layers that are not read whole, on this rank, since it started.
struct ReadStats {
  std::int64_t num_pages_there = 0;  // a row and KV head each
  std::int64_t num_pages_read = 0;
  std::uint64_t bytes_not_read = 0;
  std::int64_t num_measured = 0;        // rows and query heads, see PageReader::measures
  double attention_read = 0;            // sum of the shares of their attention that was read
  std::int64_t num_top_pages = 0;       // as many of the largest logits as were read of these rows
  std::int64_t num_top_pages_read = 0;  // and those of them that were read

  /// The share of the pages that was read; 1 where everything was.
  [[nodiscard]] double pages_share() const {
    if (num_pages_there == 0) return 1.0;
    return static_cast<double>(num_pages_read) / static_cast<double>(num_pages_there);
  }
  /// The mean share of their attention, where it was measured.
  [[nodiscard]] std::optional<double> attention_share() const {
    if (num_measured == 0) return std::nullopt;
    return attention_read / static_cast<double>(num_measured);
  }
  /// The share of the pages of the largest logits, of as many as were read, where it was measured.
  [[nodiscard]] std::optional<double> recall() const {
    if (num_top_pages == 0) return std::nullopt;
    return static_cast<double>(num_top_pages_read) / static_cast<double>(num_top_pages);
  }
};

class PageChoice {
 public:
  /// All references must outlive this object.
  PageChoice(Exec& exec, Communicator& comm, const KvCache& cache, const PageReader& reader,
             const KvBudget& budget, std::int64_t num_kv_heads);

  /// A collective. Leaves in the streams of the lone rows what they read. `holders`: the ranks with
  /// shards of the layer, ascending; each of them passes the rows of all ranks, in the same order.
  void narrow(LayerId layer, std::optional<std::int32_t> window, const std::vector<int>& holders,
              std::span<AttentionBatch> batches);

  /// Adds what rows read of their attention and of the pages that they should have read, given the
  /// log-sum-exp [T, H] over all pages and segments with the scores of lone rows for these.
  void measure(const AttentionBatch& batch, View<const float, 2> whole_lse,
               std::span<const kernels::AttentionSegment> whole_segments);

  [[nodiscard]] bool measures() const { return reader_.measures(); }
  [[nodiscard]] const ReadStats& stats() const { return stats_; }

 private:
  struct LoneRow {
    AttentionBatch* batch;
    std::size_t segment;
    Position position;
    Position oldest;        // that it may read
    std::int64_t num_read;  // pages a KV head, if there are so many
  };
  /// A page of this rank that a row may read.
  struct Candidate {
    kernels::PageBound bound;
    std::int32_t page;  // counted over the streams of the head
  };

  void find_lone_rows(std::optional<std::int32_t> window, std::span<AttentionBatch> batches);
  void rank_pages(std::optional<std::int32_t> window, std::span<AttentionBatch> batches);
  [[nodiscard]] std::span<kernels::StreamView> head_streams(const LoneRow& row,
                                                            std::size_t kv_head);
  void keep_best(const LoneRow& row, std::span<const kernels::PageBound> bounds,
                 std::vector<Candidate>& candidates);
  void add_recall(const LoneRow& row, const float* scores);
  void exchange(const std::vector<int>& holders);
  void take(const LoneRow& row, std::size_t kv_head, std::vector<Candidate>& chosen);

  Exec& exec_;
  Communicator& comm_;
  const KvCache& cache_;
  const PageReader& reader_;
  KvBudget budget_;
  std::size_t num_kv_heads_;

  std::vector<LoneRow> rows_;                       // of the layer in progress
  std::vector<std::vector<Candidate>> candidates_;  // [rows, Hkv]
  DeviceBuffer<kernels::PageBound> bounds_;
  std::vector<Message> send_, received_;
  ReadStats stats_;
};

}  // namespace pikv
