// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/reread_scores.hpp"

#include <algorithm>

#include "core/eviction/slot_order.hpp"

namespace pikv {

RereadScores::RereadScores(Exec& exec, const ModelConfig& model, const KvCache& cache,
                           const AttentionTap& tap, Communicator& comm)
    : exec_(exec),
      model_(model),
      cache_(cache),
      gather_(model, cache, tap, comm),
      inverse_frequencies_(inverse_frequencies(model)),
      by_position_(static_cast<std::size_t>(model.num_layers * model.num_kv_heads)) {}

void RereadScores::add(const Scheduler& scheduler, SequenceId copy, const RereadChunk& chunk,
                       Position next) {
  has_scores_ = true;
  const SchedulerNeeds needs{.query_rows = next - chunk.first_row, .keys = true};
  const std::int64_t at_once = gather_.num_ranks();
  for (std::int64_t first = 0; first < model_.num_layers; first += at_once) {
    const std::int64_t last = std::min(first + at_once, model_.num_layers);
    for (SlotGather::Layer& layer : gather_.run(copy, next, needs, first, last)) {
      add_layer(scheduler, chunk, next, layer);
    }
  }
}

void RereadScores::add_layer(const Scheduler& scheduler, const RereadChunk& chunk, Position next,
                             SlotGather::Layer& layer) {
  std::vector<HeadSlots> heads;
  std::vector<std::vector<float>> scores;
  for (SlotGather::Head& head : layer.heads) {
    KvCache::HeadContents& slots = head.slots;
    reorder(slots, sorted_order(slots.positions));
    const auto count = static_cast<std::int64_t>(slots.positions.size());
    heads.push_back(
        {.positions = slots.positions,
         .keys = {slots.keys.data(), {count, model_.head_dim}},
         .values = {nullptr, {0, model_.head_dim}},
         .columns = {slots.columns.data(), {count, cache_.open_layout().columns.count()}},
         .evicted_columns = slots.evicted_columns});
    scores.emplace_back(slots.positions.size());
  }
  const auto num_queries = static_cast<std::int64_t>(layer.query_positions.size());
  scheduler.score_reread(
      exec_,
      {.sequence = {},
       .layer = layer.layer,
       .next_position = next,
       .num_context = chunk.first_row,
       .heads = heads,
       .budget = {},
       .inverse_frequencies = inverse_frequencies_,
       .columns = cache_.open_layout().columns,
       .queries = {layer.queries.data(), {num_queries, model_.num_heads, model_.head_dim}},
       .query_positions = layer.query_positions},
      chunk, scores);
  for (std::size_t h = 0; h < heads.size(); ++h) {
    std::vector<float>& best = by_position_[index(layer.layer) * heads.size() + h];
    best.resize(std::max(best.size(), static_cast<std::size_t>(chunk.first_row)));
    for (std::size_t i = 0; i < scores[h].size(); ++i) {
      const Position p = heads[h].positions[i];
      if (p >= chunk.first_row) break;
      float& to = best[static_cast<std::size_t>(p)];
      // A score that is no number stays one, and is reported by the pass.
      if (!(scores[h][i] <= to)) to = scores[h][i];
    }
  }
}

std::vector<float> RereadScores::scores_of(LayerId layer, std::size_t kv_head,
                                           std::span<const Position> positions) const {
  std::vector<float> scores;
  if (!has_scores_) return scores;
  const auto num_heads = static_cast<std::size_t>(model_.num_kv_heads);
  const std::vector<float>& best = by_position_[index(layer) * num_heads + kv_head];
  for (const Position p : positions) {
    const auto i = static_cast<std::size_t>(p);
    scores.push_back(i < best.size() ? best[i] : 0.0f);
  }
  return scores;
}

void RereadScores::clear() {
  has_scores_ = false;
  for (std::vector<float>& head : by_position_) head.clear();
}

}  // namespace pikv
