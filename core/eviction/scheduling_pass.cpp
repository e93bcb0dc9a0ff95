// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/scheduling_pass.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/comm/message_fields.hpp"
#include "core/eviction/slot_order.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv {
namespace {

KeyMoments key_moments_of(const SlotGather::Layer& layer, std::size_t kv_head) {
  if (layer.key_count == 0) return {};
  const std::size_t dim = layer.key_means.size() / layer.key_deviations.size();
  return {.count = layer.key_count,
          .mean = std::span(layer.key_means).subspan(kv_head * dim, dim),
          .mean_square_deviation = layer.key_deviations[kv_head]};
}

/// [hidden, H * D] in any type -> [H, hidden, D].
std::vector<float> by_heads(const WeightView& o, std::int64_t num_heads, std::int64_t head_dim) {
  std::vector<float> result(static_cast<std::size_t>(o.rows * o.cols));
  dispatch_dtype(o.dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(o.data);
    for (std::int64_t h = 0; h < num_heads; ++h) {
      for (std::int64_t row = 0; row < o.rows; ++row) {
        float* to = result.data() + (h * o.rows + row) * head_dim;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          to[d] = to_float(from[row * o.cols + h * head_dim + d]);
        }
      }
    }
  });
  return result;
}

}  // namespace

SchedulingPass::SchedulingPass(Exec& exec, const SchedulingParts& parts)
    : exec_(exec),
      parts_(parts),
      gather_(parts.model, parts.cache, parts.tap, parts.comm),
      merge_(exec, parts.model, parts.cache, gather_, parts.comm),
      reread_(exec, parts.model, parts.cache, parts.tap, parts.comm),
      inverse_frequencies_(inverse_frequencies(parts.model)),
      projections_(static_cast<std::size_t>(parts.model.num_layers)),
      send_(make_messages(parts.comm.size())),
      received_(make_messages(parts.comm.size())),
      largest_scores_(static_cast<std::size_t>(parts.model.num_layers * parts.model.num_kv_heads)) {
  switch_to(parts.scheduler, parts.budget);
}

void SchedulingPass::switch_to(const Scheduler& scheduler, const KvBudget& budget) {
  const SchedulerNeeds needs = scheduler.needs();
  require(parts_.recorded.record_enough_for(needs), "scheduler",
          "it needs queries or attention that this run does not record");
  require(scheduler.evicts() || !parts_.cache.has_tiers(), "scheduler",
          "the codec puts slots into tiers by their scores, and this scheduler gives none");
  require(scheduler.page_reader() == parts_.scheduler.page_reader(), "scheduler",
          "what decode reads cannot change in a run");
  scheduler_ = &scheduler;
  budget_ = budget;
  needs_ = needs;
  for (auto& [sequence, memory] : memories_) memory.feedback = {};
  ++num_switches_;
}

void SchedulingPass::run(const ScheduledSequence& sequence, std::int64_t num_sequences) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t num_layers = parts_.model.num_layers;
  const auto num_heads = static_cast<std::size_t>(num_layers * parts_.model.num_kv_heads);
  scores_.sequence = sequence.id;
  scores_.next_position = static_cast<Position>(sequence.num_computed);
  scores_.num_context = sequence.num_context;
  scores_.num_kv_heads = parts_.model.num_kv_heads;
  scores_.heads.resize(num_heads);
  counts_.resize(num_heads);
  const KvBudget budget = budget_of(num_sequences).scaled(feedback(sequence.id).budget_factor);

  // Keys and values of one layer a rank at a time; what is small goes at once.
  const std::int64_t at_once = needs_.keys || needs_.values ? parts_.comm.size() : num_layers;
  for (std::int64_t first = 0; first < num_layers; first += at_once) {
    const std::int64_t last = std::min(first + at_once, num_layers);
    const auto layers = gather_.run(sequence.id, scores_.next_position, needs_, first, last);
    scored_.resize(std::max(scored_.size(), layers.size()));
    for (std::size_t i = 0; i < layers.size(); ++i) score(layers[i], budget, scored_[i]);
    share(layers.size(), first, last);
  }
  if (scheduler_->head_table()) note_largest_scores();
  apply(budget);
  reread_.clear();
  ++stats_.num_passes;
  stats_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void SchedulingPass::score_reread(SequenceId copy, const RereadChunk& chunk, Position next) {
  reread_.add(*scheduler_, copy, chunk, next);
}

/// Whole pages of every stream, as if all were of one shard.
KvBudget SchedulingPass::budget_of(std::int64_t num_sequences) const {
  KvBudget budget = budget_;
  if (!budget.bytes) return budget;
  const auto num_heads =
      static_cast<std::uint64_t>(std::max<std::int64_t>(num_sequences, 1) *
                                 parts_.model.num_layers * parts_.model.num_kv_heads);
  const auto bytes = static_cast<double>(*budget.bytes) * parts_.comm.size();
  const auto pages = static_cast<std::int64_t>(
      bytes / (static_cast<double>(num_heads) * parts_.cache.mean_page_bytes()));
  budget.slots = std::max<std::int64_t>(1, pages * parts_.cache.open_layout().num_slots);
  budget.bytes.reset();
  return budget;
}

void SchedulingPass::score(SlotGather::Layer& layer, const KvBudget& budget, Scored& scored) {
  const std::int64_t head_dim = parts_.model.head_dim;
  const std::int64_t num_heads = parts_.model.num_heads;
  const std::int64_t num_columns = parts_.cache.open_layout().columns.count();
  std::vector<float>& projection = projections_[index(layer.layer)];
  if (needs_.output_projection && projection.empty()) {
    projection = by_heads(parts_.weights.layer(layer.layer).attention.o, num_heads, head_dim);
  }
  std::vector<HeadSlots> heads;
  std::vector<std::vector<std::size_t>> orders(layer.heads.size());
  std::vector<std::vector<float>>& scores = layer_scores_;
  scores.resize(layer.heads.size());
  std::vector<std::vector<float>> reread(layer.heads.size());
  scored.layer = layer.layer;
  scored.counts.resize(layer.heads.size());
  scored.heads.resize(layer.heads.size());
  if (needs_.in_order) {
    kernels::cpu::parallel_for(exec_, static_cast<std::int64_t>(orders.size()),
                               [&](std::int64_t i, int) {
                                 const auto h = static_cast<std::size_t>(i);
                                 KvCache::HeadContents& slots = layer.heads[h].slots;
                                 scored.heads[h].positions = slots.positions;
                                 orders[h] = sorted_order(slots.positions);
                                 reorder(slots, orders[h]);
                               });
  }
  for (std::size_t h = 0; h < layer.heads.size(); ++h) {
    const KvCache::HeadContents& slots = layer.heads[h].slots;
    scored.counts[h] = layer.heads[h].counts;
    reread[h] = reread_.scores_of(layer.layer, h, slots.positions);
    const auto count = static_cast<std::int64_t>(slots.positions.size());
    heads.push_back({.positions = slots.positions,
                     .keys = {slots.keys.data(), {needs_.keys ? count : 0, head_dim}},
                     .values = {slots.values.data(), {needs_.values ? count : 0, head_dim}},
                     .columns = {slots.columns.data(), {count, num_columns}},
                     .evicted_columns = slots.evicted_columns,
                     .key_moments = key_moments_of(layer, h),
                     .reread_scores = reread[h]});
    scores[h].assign(slots.positions.size(), 0.0f);
  }
  const auto num_queries = static_cast<std::int64_t>(layer.query_positions.size());
  scheduler_->score(
      exec_,
      {.sequence = scores_.sequence,
       .layer = layer.layer,
       .next_position = scores_.next_position,
       .num_context = scores_.num_context,
       .heads = heads,
       .budget = budget,
       .inverse_frequencies = inverse_frequencies_,
       .columns = parts_.cache.open_layout().columns,
       .queries = {layer.queries.data(), {num_queries, num_heads, head_dim}},
       .query_positions = layer.query_positions,
       .moments = {.count = layer.moment_count,
                   .mean = {layer.mean.data(), {num_heads, head_dim}},
                   .covariance = {layer.covariance.data(), {num_heads, head_dim, head_dim}}},
       .output_projection = {projection.data(), {num_heads, parts_.model.hidden_size, head_dim}}},
      scores);
  for (std::size_t h = 0; h < heads.size(); ++h) {
    ensure(scores[h].size() == heads[h].positions.size(), "one score a slot");
    if (!needs_.in_order) {
      std::swap(scored.heads[h].positions, layer.heads[h].slots.positions);
      std::swap(scored.heads[h].scores, scores[h]);
      continue;
    }
    scored.heads[h].scores.resize(scores[h].size());
    for (std::size_t i = 0; i < scores[h].size(); ++i) {
      scored.heads[h].scores[orders[h][i]] = scores[h][i];
    }
  }
  check(scored);
}

void SchedulingPass::check(const Scored& scored) const {
  for (std::size_t h = 0; h < scored.heads.size(); ++h) {
    std::int32_t num_bad = 0;  // counted without a branch, for this is done in every run
    for (const float s : scored.heads[h].scores) num_bad += s != s ? 1 : 0;
    if (num_bad == 0) continue;
    throw Error(concat("scheduler: a score of layer ", index(scored.layer), ", KV head ", h,
                       " is not a number"));
  }
}

// Everyone learns counts, positions and scores of the layers that were scored in this round.
void SchedulingPass::share(std::size_t num_mine, std::int64_t first, std::int64_t last) {
  const auto size = static_cast<std::size_t>(parts_.comm.size());
  if (size == 1) {
    for (std::size_t i = 0; i < num_mine; ++i) take(scored_[i]);
    return;
  }
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < num_mine; ++i) {
    for (const HeadScores& head : scored_[i].heads) {
      bytes += field_bytes<std::int64_t>(size) + field_bytes<Position>(head.positions.size()) +
               field_bytes<float>(head.scores.size());
    }
  }
  for (Message& message : send_) {
    message.resize_discard(bytes);
    MessageFields fields(message);
    for (std::size_t i = 0; i < num_mine; ++i) {
      for (std::size_t h = 0; h < scored_[i].heads.size(); ++h) {
        const HeadScores& head = scored_[i].heads[h];
        std::ranges::copy(scored_[i].counts[h], fields.next<std::int64_t>(size).begin());
        std::ranges::copy(head.positions, fields.next<Position>(head.positions.size()).begin());
        std::ranges::copy(head.scores, fields.next<float>(head.scores.size()).begin());
      }
    }
  }
  parts_.comm.all_to_all_v(send_, received_, "scores");
  std::vector<MessageFields> messages(received_.begin(), received_.end());
  Scored scored;
  for (std::int64_t layer = first; layer < last; ++layer) {
    MessageFields& fields = messages[static_cast<std::size_t>(gather_.rank_of(layer))];
    scored.layer = id_from<LayerId>(layer);
    scored.counts.resize(static_cast<std::size_t>(scores_.num_kv_heads));
    scored.heads.resize(scored.counts.size());
    for (std::size_t h = 0; h < scored.heads.size(); ++h) {
      const auto counts = fields.next<std::int64_t>(size);
      scored.counts[h].assign(counts.begin(), counts.end());
      const auto n =
          static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
      const auto positions = fields.next<Position>(n);
      scored.heads[h].positions.assign(positions.begin(), positions.end());
      const auto scores = fields.next<float>(n);
      scored.heads[h].scores.assign(scores.begin(), scores.end());
    }
    take(scored);
  }
}

void SchedulingPass::take(Scored& scored) {
  for (std::size_t h = 0; h < scored.heads.size(); ++h) {
    const std::size_t i = index(scored.layer) * static_cast<std::size_t>(scores_.num_kv_heads) + h;
    std::swap(scores_.heads[i], scored.heads[h]);
    std::swap(counts_[i], scored.counts[h]);
  }
}

void SchedulingPass::note_largest_scores() {
  for (std::size_t i = 0; i < scores_.heads.size(); ++i) {
    const std::vector<float>& scores = scores_.heads[i].scores;
    if (scores.empty()) continue;
    const float largest = std::ranges::max(scores);
    if (stats_.num_passes == 0 || largest > largest_scores_[i]) largest_scores_[i] = largest;
  }
}

void SchedulingPass::apply(const KvBudget& budget) {
  evict_.resize(scores_.heads.size());
  for (std::vector<std::int32_t>& head : evict_) head.clear();
  scheduler_->select(scores_, budget, evict_);
  stats_.num_merged += merge_.run(*scheduler_, {scores_, evict_, counts_});
  evict();
  move();
  if (parts_.cache.has_tiers()) put_in_tiers();
  Memory& memory = memories_[scores_.sequence];
  scheduler_->adapt(scores_, evict_, memory.feedback);
  if (records_evictions_) memory.evictions.add(scores_, evict_, moves_);
}

/// Of all streams at once.
void SchedulingPass::evict() {
  std::size_t num_evicted = 0;
  for (std::size_t i = 0; i < evict_.size(); ++i) {
    num_evicted += evict_[i].size();
    stats_.num_kept +=
        static_cast<std::int64_t>(scores_.heads[i].positions.size() - evict_[i].size());
  }
  stats_.num_evicted += static_cast<std::int64_t>(num_evicted);
  std::vector<std::int32_t> subscripts;  // of each stream, one after another
  subscripts.reserve(num_evicted);
  std::vector<KvCache::Slots> slots;
  for (std::size_t i = 0; i < evict_.size(); ++i) {
    if (evict_[i].empty()) continue;
    for (const SlotGather::Run& run : gather_.runs(scores_.sequence, i, counts_[i])) {
      const std::size_t begin = subscripts.size();
      for (auto it = std::ranges::lower_bound(evict_[i], run.begin);
           it != evict_[i].end() && *it < run.end; ++it) {
        subscripts.push_back(*it - run.begin);
      }
      slots.push_back({run.stream, {subscripts.data() + begin, subscripts.size() - begin}});
    }
  }
  parts_.cache.evict_slots(slots);
}

/// The slots that stay, by their scores.
void SchedulingPass::put_in_tiers() {
  std::vector<std::vector<float>> of_streams;
  std::vector<StreamId> streams;
  for (std::size_t i = 0; i < evict_.size(); ++i) {
    for (const SlotGather::Run& run : gather_.runs(scores_.sequence, i, counts_[i])) {
      if (!parts_.cache.tiers_due(run.stream)) continue;
      std::vector<float> worths;
      auto evicted = std::ranges::lower_bound(evict_[i], run.begin);
      for (std::int32_t slot = run.begin; slot < run.end; ++slot) {
        if (evicted != evict_[i].end() && *evicted == slot) {
          ++evicted;
        } else {
          worths.push_back(scores_.heads[i].scores[static_cast<std::size_t>(slot)]);
        }
      }
      if (worths.empty()) continue;
      streams.push_back(run.stream);
      of_streams.push_back(std::move(worths));
    }
  }
  std::vector<KvCache::Worths> worths;
  for (std::size_t i = 0; i < streams.size(); ++i) worths.push_back({streams[i], of_streams[i]});
  parts_.cache.tier_slots(worths);
}

void SchedulingPass::move() {
  moves_.resize(evict_.size());
  for (std::vector<SlotMove>& head : moves_) head.clear();
  scheduler_->move(scores_, evict_, moves_);
  std::vector<std::vector<KvCache::Turn>> of_streams;
  std::vector<StreamId> streams;
  for (std::size_t i = 0; i < moves_.size(); ++i) {
    if (moves_[i].empty()) continue;
    for (const SlotGather::Run& run : gather_.runs(scores_.sequence, i, counts_[i])) {
      streams.push_back(run.stream);
      std::vector<KvCache::Turn>& turns = of_streams.emplace_back();
      for (const SlotMove& move : moves_[i]) {
        if (move.slot < run.begin || move.slot >= run.end) continue;
        turns.push_back({.from = scores_.heads[i].positions[static_cast<std::size_t>(move.slot)],
                         .to = move.position});
      }
    }
  }
  std::vector<KvCache::Turns> turns;
  for (std::size_t i = 0; i < streams.size(); ++i) turns.push_back({streams[i], of_streams[i]});
  parts_.cache.turn_slots(turns, inverse_frequencies_);
}

EvictionRecord SchedulingPass::evictions(SequenceId sequence) const {
  const auto found = memories_.find(sequence);
  return found == memories_.end() ? EvictionRecord{} : found->second.evictions;
}

SequenceFeedback SchedulingPass::feedback(SequenceId sequence) const {
  const auto found = memories_.find(sequence);
  return found == memories_.end() ? SequenceFeedback{} : found->second.feedback;
}

void SchedulingPass::fork(SequenceId from, SequenceId to) {
  const auto found = memories_.find(from);
  if (found == memories_.end()) return;
  Memory copy = found->second;
  memories_[to] = std::move(copy);
}

void SchedulingPass::forget(SequenceId sequence) { memories_.erase(sequence); }

std::int64_t SchedulingPass::longest_head() const {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < evict_.size(); ++i) {
    longest = std::max(longest, scores_.heads[i].positions.size() - evict_[i].size());
  }
  return static_cast<std::int64_t>(longest);
}

}  // namespace pikv
