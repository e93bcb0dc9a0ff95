// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// KVzip (Kim et al. 2025, 2505.23416): a slot is worth the largest attention that it gets while the
// model repeats the chunk of text that the slot belongs to, over the query heads of its group and
// all queries of the repetition.
//
// The softmax runs over a part of the keys alone: the first `sinks` of the sequence, the chunk's
// own and those of the repetition, the last causally. So its values compare with each other, over
// layers and heads too, but not with those of other methods. In float32, where the published code
// rounds to the type of the model.
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/linear.hpp"
#include "kernels/softmax.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

/// Queries whose scores are in memory at a time; the products stay large.
constexpr std::int64_t kQueriesAtOnce = 256;

class KvZip final : public Scorer {
 public:
  KvZip(Rereading reread, const Protection& kept) : reread_(std::move(reread)), kept_(kept) {}

  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.in_order = false, .reread = reread_};
  }
  [[nodiscard]] Protection protection(std::int64_t) const override { return kept_; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const HeadSlots& head = slots.heads[h];
      for (std::size_t i = 0; i < head.reread_scores.size(); ++i) {
        // Sinks are kept for what they are; what they draw says nothing about the head.
        if (head.positions[i] >= kept_.sinks) scores[h][i] = head.reread_scores[i];
      }
    }
  }

  void score_reread(Exec& exec, const LayerSlots& slots, const RereadChunk& chunk,
                    std::span<std::vector<float>> scores) const override {
    Buffers buffers;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      collect_keys(slots.heads[h], chunk, buffers);
      if (buffers.num_chunk == 0) continue;
      const std::int64_t rows = slots.queries.extent(0);
      const std::int64_t group =
          slots.queries.extent(1) / static_cast<std::int64_t>(slots.heads.size());
      const std::int64_t at_once = std::max<std::int64_t>(1, kQueriesAtOnce / group);
      for (std::int64_t first = 0; first < rows; first += at_once) {
        add_attention(exec, slots, h, first, std::min(first + at_once, rows), buffers,
                      std::span(scores[h]).subspan(buffers.first_of_chunk, buffers.num_chunk));
      }
    }
  }

 private:
  struct Buffers {
    std::vector<float> keys;  // [m, D]: sinks, chunk, repetition
    std::vector<Position> positions;
    std::size_t num_sinks, num_chunk;
    std::size_t first_of_chunk;         // subscript of a slot
    std::vector<float> queries;         // [w * G, D]
    std::vector<float> logits;          // [w * G, m], then weights
    std::vector<std::int32_t> lengths;  // [w * G], keys that a query reads
  };

  /// The keys that the softmax sees.
  void collect_keys(const HeadSlots& head, const RereadChunk& chunk, Buffers& buffers) const {
    buffers.keys.clear();
    buffers.positions.clear();
    const auto add = [&](Position begin, Position end) {
      const auto first = std::ranges::lower_bound(head.positions, begin) - head.positions.begin();
      const auto last = std::ranges::lower_bound(head.positions, end) - head.positions.begin();
      if (first >= last) return std::pair{static_cast<std::size_t>(first), std::size_t{0}};
      buffers.keys.insert(buffers.keys.end(), head.keys.row(first),
                          head.keys.row(first) + (last - first) * head.keys.extent(1));
      buffers.positions.insert(buffers.positions.end(), head.positions.begin() + first,
                               head.positions.begin() + last);
      return std::pair{static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)};
    };
    const auto sinks = static_cast<Position>(kept_.sinks);
    buffers.num_sinks = add(0, std::min(sinks, chunk.begin)).second;
    std::tie(buffers.first_of_chunk, buffers.num_chunk) = add(chunk.begin, chunk.end);
    add(chunk.first_row, std::numeric_limits<Position>::max());
  }

  /// Raises received[i] to the attention that slot i of the chunk gets from the queries of rows
  /// [first, last).
  static void add_attention(Exec& exec, const LayerSlots& slots, std::size_t kv_head,
                            std::int64_t first, std::int64_t last, Buffers& buffers,
                            std::span<float> received) {
    const std::int64_t group =
        slots.queries.extent(1) / static_cast<std::int64_t>(slots.heads.size());
    const std::int64_t dim = slots.queries.extent(2);
    const std::int64_t rows = (last - first) * group;
    // What the last of the rows reads is all that any of them does.
    const Position newest = slots.query_positions[static_cast<std::size_t>(last - 1)];
    const std::int64_t count =
        std::ranges::upper_bound(buffers.positions, newest) - buffers.positions.begin();
    const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
    buffers.queries.clear();
    for (std::int64_t r = first; r < last; ++r) {
      const float* from = slots.queries.row(r) + static_cast<std::int64_t>(kv_head) * group * dim;
      std::transform(from, from + group * dim, std::back_inserter(buffers.queries),
                     [&](float q) { return q * scale; });
    }
    buffers.logits.resize(static_cast<std::size_t>(rows * count));
    kernels::linear(exec, {.x = {buffers.queries.data(), {rows, dim}},
                           .weight = {buffers.keys.data(), DType::kF32, count, dim},
                           .y = {buffers.logits.data(), {rows, count}}});
    buffers.lengths.resize(static_cast<std::size_t>(rows));
    for (std::int64_t r = 0; r < rows; ++r) {
      const Position own = slots.query_positions[static_cast<std::size_t>(first + r / group)];
      buffers.lengths[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(
          std::ranges::upper_bound(buffers.positions, own) - buffers.positions.begin());
    }
    kernels::softmax(exec, {.x = {buffers.logits.data(), {rows, count}},
                            .lengths = {buffers.lengths.data(), {rows}}});
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* weights =
          buffers.logits.data() + r * count + static_cast<std::int64_t>(buffers.num_sinks);
      for (std::size_t i = 0; i < received.size(); ++i) {
        // A weight that is no number stays one, for the pass to report.
        if (!(weights[i] <= received[i])) received[i] = weights[i];
      }
    }
  }

  Rereading reread_;
  Protection kept_;
};

}  // namespace

std::unique_ptr<const Scorer> make_kvzip_scorer(const Rereading& reread, const Protection& kept) {
  return std::make_unique<KvZip>(reread, kept);
}

}  // namespace pikv::scheduling
