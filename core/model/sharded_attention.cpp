// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/sharded_attention.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/attention_columns.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

ShardedAttention::ShardedAttention(Exec& exec, Communicator& comm, KvCache& cache,
                                   const ShardMap& shard_map, const KvRouter& router,
                                   const Config& config)
    : exec_(exec),
      comm_(comm),
      cache_(cache),
      shard_map_(shard_map),
      router_(router),
      config_(config),
      send_(make_messages(comm)),
      received_(make_messages(comm)),
      replies_(make_messages(comm)),
      results_(make_messages(comm)),
      totals_(make_messages(comm)),
      received_totals_(make_messages(comm)),
      lse_(exec.device()),
      queries_in_basis_(exec.device()),
      gathered_{exec.device()} {
  if (config.page_reader == nullptr) return;
  page_choice_.emplace(exec, comm, cache, *config.page_reader, config.read_budget,
                       config.num_kv_heads);
}

void ShardedAttention::run(const Args& given) {
  if (runs_prepared(given)) {
    run_prepared(given);
    return;
  }
  if (given.rotations != nullptr) kernels::rotate(exec_, *given.rotations);
  Args args = given;
  args.q = queries_in_basis(given);
  if (config_.exchange != nullptr) {
    run_gathered(args);
  } else if (comm_.size() > 1) {
    run_messaged(args);
  } else {
    run_alone(args);
  }
  cache_.change_basis(&Basis::back_to_values, args.layer, args.rows.sequences, args.o);
}

void ShardedAttention::choose_owners(LayerId layer, const ServedRows& rows) {
  owners_.resize(rows.sequences.size());
  router_.choose_owners({.layer = layer,
                         .sequences = rows.sequences,
                         .positions = rows.positions,
                         .last_expert = rows.last_expert,
                         .num_shards = shard_map_.num_shards()},
                        owners_);
}

/// Those of all rows whose owner is a shard of this rank. Valid until the next call.
KvCache::Entries ShardedAttention::entries_here(LayerId layer, const ServedRows& rows) {
  choose_owners(layer, rows);
  KvCache::Entries entries{.layer = layer,
                           .sequences = rows.sequences,
                           .positions = rows.positions,
                           .shards = owners_,
                           .keys = rows.k,
                           .values = rows.v};
  if (comm_.size() == 1) return entries;
  owned_ = {};
  for (std::size_t row = 0; row < owners_.size(); ++row) {
    if (shard_map_.rank_of(layer, owners_[row]) != comm_.rank()) continue;
    owned_.rows.push_back(static_cast<std::int32_t>(row));
    owned_.sequences.push_back(rows.sequences[row]);
    owned_.positions.push_back(rows.positions[row]);
    owned_.shards.push_back(owners_[row]);
  }
  if (owned_.rows.size() == owners_.size()) return entries;
  entries.sequences = owned_.sequences;
  entries.positions = owned_.positions;
  entries.shards = owned_.shards;
  entries.rows = owned_.rows;
  if (owned_.rows.empty()) entries.keys.extents[0] = entries.values.extents[0] = 0;
  return entries;
}

void ShardedAttention::run_alone(const Args& args) {
  append(entries_here(args.layer, own_rows(args)));
  lse_.resize_discard(static_cast<std::size_t>(args.rows.size() * config_.num_heads));
  batches_.resize(1);
  batches_[0].queries = {.sequences = args.rows.sequences,
                         .positions = args.rows.positions,
                         .q = args.q,
                         .o = args.o,
                         .lse = {lse_.data(), {args.rows.size(), config_.num_heads}}};
  attend(args.layer, args.window, {0}, batches_);
  if (adds_as_it_attends()) drop_single_rows(batches_[0]);
  if (keeps_account()) account(args.window, batches_[0], batches_[0].queries.lse);
}

/// Arguments of many layers go to a GPU in one copy: a copy between two launches makes the second
/// wait for all of the first, and takes longer than most of them. Where owners follow from what the
/// layer before chose, or pages are chosen by the queries, it is a copy a layer.
bool ShardedAttention::prepares(const ServedRows& rows) const {
  return exec_.device() == Device::kCuda && !page_choice_ && !rows.sequences.empty() &&
         (!router_.reads_experts() || shard_map_.num_shards() == 1) &&
         cache_.can_prepare(rows.sequences);
}

void ShardedAttention::prepare_layers(LayerId first, const ServedRows& rows) {
  constexpr std::size_t kMaxBytes = std::size_t{512} << 10;  // more is copied while layers run
  // So that a GPU which waits for the step begins with these while the host prepares the others.
  constexpr std::int64_t kFirstLayers = 4;
  const auto begin = static_cast<std::int64_t>(index(first));
  const std::int64_t end =
      std::min(begin == 0 ? kFirstLayers : shard_map_.num_layers(), shard_map_.num_layers());
  std::size_t num_bytes = 0;
  for (std::int64_t layer = begin; layer < end && num_bytes < kMaxBytes; ++layer) {
    const auto id = id_from<LayerId>(layer);
    const KvCache::Entries entries = entries_here(id, rows);
    if (cache_.prepare(entries) == AppendResult::kPoolFull) {
      if (prepared_.empty()) refuse(entries);
      return;  // others may free pages before it is this layer's turn
    }
    PreparedLayer& prepared = prepared_.emplace_back();
    prepared.layer = id;
    prepared.batch.queries.sequences = rows.sequences;
    prepared.batch.queries.positions = rows.positions;
    collect(id, prepared.batch);
    prepared.on_device = on_device(exec_, prepared.batch, prepared.batch.segments);
    num_bytes += entries.sequences.size() * sizeof(kernels::KvWrite) *
                 static_cast<std::size_t>(config_.num_kv_heads);
    for (const kernels::StreamView& stream : prepared.batch.streams) {
      num_bytes += sizeof(stream) +
                   static_cast<std::size_t>(stream.num_sealed_pages) * (sizeof(std::byte*) + 1);
    }
  }
}

/// A layer whose entries have been enqueued for their pages.
ShardedAttention::PreparedLayer ShardedAttention::take_prepared(
    LayerId layer, const ServedRows& rows, const kernels::Rotations* rotations) {
  if (prepared_.empty()) prepare_layers(layer, rows);
  PreparedLayer prepared = std::move(prepared_.front());
  prepared_.pop_front();
  ensure(prepared.layer == layer, "layers run in the order in which they were prepared");
  cache_.write_prepared(rotations);
  return prepared;
}

void ShardedAttention::run_prepared(const Args& args) {
  PreparedLayer prepared = take_prepared(args.layer, own_rows(args), args.rotations);
  lse_.resize_discard(static_cast<std::size_t>(args.rows.size() * config_.num_heads));
  const View<float, 2> lse{lse_.data(), {args.rows.size(), config_.num_heads}};
  prepared.batch.queries.q = args.q;
  attend(args.window, prepared.batch, prepared.on_device, {.o = args.o, .lse = lse});
  if (keeps_account()) account(args.window, prepared.batch, lse);
}

void ShardedAttention::end_step() {
  prepared_.clear();
  cache_.drop_prepared();
}

View<const float, 3> ShardedAttention::queries_in_basis(const Args& args) {
  if (!cache_.have_basis(args.rows.sequences)) return args.q;
  queries_in_basis_.resize_discard(static_cast<std::size_t>(args.q.size()));
  copy_bytes(exec_, queries_in_basis_.data(), exec_.device(), args.q.data, exec_.device(),
             queries_in_basis_.size() * sizeof(float));
  const View<float, 3> mapped{queries_in_basis_.data(), args.q.extents};
  cache_.change_basis(&Basis::of_queries, args.layer, args.rows.sequences, mapped);
  return mapped;
}

void ShardedAttention::append(const KvCache::Entries& entries) {
  if (cache_.append(entries) == AppendResult::kPoolFull) refuse(entries);
}

void ShardedAttention::refuse(const KvCache::Entries& entries) const {
  const CacheStats stats = cache_.stats();
  throw OutOfMemory(concat("kv_cache: the pool is full: ", entries.sequences.size(),
                           " new entries of layer ", index(entries.layer), " do not fit beside ",
                           stats.page_bytes, " bytes in use; raise --kv-memory (rank ",
                           comm_.rank(), ")"));
}

bool ShardedAttention::stores_scores(const Batch& batch,
                                     const kernels::AttentionSegment& segment) const {
  if (segment.row_end - segment.row_begin != 1) return false;
  const auto row = static_cast<std::size_t>(segment.row_begin);
  return cache_.open_layout().columns != AttentionColumns(AttentionColumn::kLargestFar) ||
         is_sampled_query(batch.queries.positions[row]);
}

void ShardedAttention::collect(LayerId layer, Batch& batch) const {
  batch.segments.clear();
  batch.streams.clear();
  batch.whole_streams.clear();
  const auto num_rows = static_cast<std::int32_t>(batch.queries.sequences.size());
  for (std::int32_t row = 0; row < num_rows;) {
    const SequenceId sequence = batch.queries.sequences[static_cast<std::size_t>(row)];
    std::int32_t end = row + 1;
    while (end < num_rows && batch.queries.sequences[static_cast<std::size_t>(end)] == sequence) {
      ++end;
    }
    const auto first_stream = static_cast<std::int64_t>(batch.streams.size());
    const std::int32_t num_streams = cache_.collect_streams(layer, sequence, batch.streams);
    batch.segments.push_back({.row_begin = row,
                              .row_end = end,
                              .first_stream = first_stream,
                              .num_streams = num_streams});
    row = end;
  }
}

/// Single rows leave their scores, so that the keys are not read twice.
void ShardedAttention::make_room_for_scores(Batch& batch) const {
  const std::int64_t floats_per_page =
      cache_.open_layout().num_slots * (config_.num_heads / config_.num_kv_heads);
  std::size_t num_floats = 0;
  std::vector<std::size_t> begins;
  for (const kernels::AttentionSegment& segment : batch.segments) {
    begins.push_back(num_floats);
    if (!stores_scores(batch, segment)) continue;
    for (std::int64_t i = 0; i < segment.num_streams * config_.num_kv_heads; ++i) {
      const auto& view = batch.streams[static_cast<std::size_t>(segment.first_stream + i)];
      num_floats += static_cast<std::size_t>(
          (view.num_sealed_pages + (view.open_page != nullptr ? 1 : 0)) * floats_per_page);
    }
  }
  batch.scores.resize(num_floats);
  for (std::size_t i = 0; i < batch.segments.size(); ++i) {
    if (stores_scores(batch, batch.segments[i])) {
      batch.segments[i].scores = batch.scores.data() + begins[i];
    }
  }
}

/// Attention has accounted for them.
void ShardedAttention::drop_single_rows(Batch& batch) {
  std::erase_if(batch.segments,
                [](const kernels::AttentionSegment& s) { return s.row_end - s.row_begin == 1; });
}

void ShardedAttention::account(std::optional<std::int32_t> window, const Batch& batch,
                               View<const float, 2> lse) {
  for (const auto segments : runs_of_own_sequences(batch)) {
    const AttentionBatchView rows = on_device(exec_, batch, segments);
    kernels::attention_columns(exec_,
                               {.q = batch.queries.q,
                                .positions = rows.positions,
                                .segments = rows.segments,
                                .streams = rows.streams,
                                .num_kv_heads = static_cast<std::int32_t>(config_.num_kv_heads),
                                .sealed_layouts = cache_.sealed_layouts(),
                                .open_layout = cache_.open_layout(),
                                .inverse_frequencies = cache_.inverse_frequencies(),
                                .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                                .window = window,
                                .lse = lse,
                                .decay = config_.column_decay});
  }
}

void ShardedAttention::attend(LayerId layer, std::optional<std::int32_t> window,
                              const std::vector<int>& holders, std::span<Batch> batches) {
  for (Batch& batch : batches) collect(layer, batch);
  if (page_choice_) page_choice_->narrow(layer, window, holders, batches);
  for (Batch& batch : batches) {
    if (keeps_account() && keeps_scores()) make_room_for_scores(batch);
    attend(window, batch,
           {.o = batch.queries.o, .lse = batch.queries.lse, .accounts = adds_as_it_attends()});
    if (!batch.whole_streams.empty()) measure(window, batch);
  }
}

void ShardedAttention::attend(std::optional<std::int32_t> window, const Batch& batch,
                              const Attended& to) {
  attend(window, batch, on_device(exec_, batch, batch.segments), to);
}

void ShardedAttention::attend(std::optional<std::int32_t> window, const Batch& batch,
                              const AttentionBatchView& rows, const Attended& to) {
  kernels::attention(exec_, {.q = batch.queries.q,
                             .positions = rows.positions,
                             .segments = rows.segments,
                             .streams = rows.streams,
                             .num_kv_heads = static_cast<std::int32_t>(config_.num_kv_heads),
                             .sealed_layouts = cache_.sealed_layouts(),
                             .open_layout = cache_.open_layout(),
                             .inverse_frequencies = cache_.inverse_frequencies(),
                             .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                             .window = window,
                             .o = to.o,
                             .lse = to.lse,
                             .single_rows = std::ssize(batch.segments) == batch.queries.q.extent(0),
                             .adds_to_columns = to.accounts,
                             .column_decay = config_.column_decay});
}

/// Attends to all pages beside what was read.
void ShardedAttention::measure(std::optional<std::int32_t> window, const Batch& batch) {
  std::vector<float> o(static_cast<std::size_t>(batch.queries.o.size()));
  std::vector<float> lse(static_cast<std::size_t>(batch.queries.lse.size()));
  const View<float, 2> whole_lse{lse.data(), batch.queries.lse.extents};
  Batch whole;
  whole.queries = batch.queries;
  whole.segments = batch.segments;
  whole.streams = batch.whole_streams;
  make_room_for_scores(whole);
  attend(window, whole, {.o = {o.data(), batch.queries.o.extents}, .lse = whole_lse});
  page_choice_->measure(batch, whole_lse, whole.segments);
}

}  // namespace pikv
