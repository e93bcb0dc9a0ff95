// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/sharded_attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/comm/message_fields.hpp"
#include "kernels/attention_columns.hpp"
#include "kernels/common/error.hpp"
#include "kernels/merge_states.hpp"

namespace pikv {
namespace {

struct Header {
  std::int32_t num_queries;
  std::int32_t num_entries;
};

}  // namespace

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
  Args args = given;
  args.q = queries_in_basis(given);
  if (config_.exchange != nullptr) {
    run_gathered(args);
    return;
  }
  if (comm_.size() == 1) {
    prepares(own_rows(args)) ? run_prepared(args) : run_alone(args);
  } else {
    choose_owners(args.layer, own_rows(args));
    const std::vector<int> holders = shard_map_.ranks_with_shards(args.layer);
    for (int rank = 0; rank < comm_.size(); ++rank) {
      pack(args, rank, std::ranges::binary_search(holders, rank));
    }
    comm_.all_to_all_v(send_, received_, "attention queries");
    answer(args, holders);
    comm_.all_to_all_v(replies_, results_, "attention results");
    merge(args);
    if (keeps_account()) exchange_totals(args, holders);
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
  std::size_t num_bytes = 0;
  for (auto layer = static_cast<std::int64_t>(index(first));
       layer < shard_map_.num_layers() && num_bytes < kMaxBytes; ++layer) {
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
ShardedAttention::PreparedLayer ShardedAttention::take_prepared(LayerId layer,
                                                                const ServedRows& rows) {
  if (prepared_.empty()) prepare_layers(layer, rows);
  PreparedLayer prepared = std::move(prepared_.front());
  prepared_.pop_front();
  ensure(prepared.layer == layer, "layers run in the order in which they were prepared");
  cache_.write_prepared();
  return prepared;
}

void ShardedAttention::run_prepared(const Args& args) {
  PreparedLayer prepared = take_prepared(args.layer, own_rows(args));
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

// The message to a rank: its header; sequence, position and query of every row; sequence, position,
// shard, key and value of the rows whose entry it owns. Empty for a rank without shards.
void ShardedAttention::pack(const Args& args, int rank, bool has_shards) {
  Message& message = send_[static_cast<std::size_t>(rank)];
  const auto num_rows = static_cast<std::size_t>(args.rows.size());
  if (!has_shards || num_rows == 0) {
    message.resize_discard(0);
    return;
  }
  const auto q_size = static_cast<std::size_t>(args.q.row_size());
  const auto kv_size = static_cast<std::size_t>(args.k.row_size());
  const auto owned = [&](std::size_t row) {
    return shard_map_.rank_of(args.layer, owners_[row]) == rank;
  };
  std::size_t num_entries = 0;
  for (std::size_t row = 0; row < num_rows; ++row) num_entries += owned(row) ? 1U : 0U;

  message.resize_discard(field_bytes<Header>(1) + field_bytes<SequenceId>(num_rows) +
                         field_bytes<Position>(num_rows) + field_bytes<float>(num_rows * q_size) +
                         field_bytes<SequenceId>(num_entries) + field_bytes<Position>(num_entries) +
                         field_bytes<ShardId>(num_entries) +
                         2 * field_bytes<float>(num_entries * kv_size));
  MessageFields fields(message);
  fields.next<Header>(1)[0] = {static_cast<std::int32_t>(num_rows),
                               static_cast<std::int32_t>(num_entries)};
  std::ranges::copy(args.rows.sequences, fields.next<SequenceId>(num_rows).begin());
  std::ranges::copy(args.rows.positions, fields.next<Position>(num_rows).begin());
  std::copy_n(args.q.data, num_rows * q_size, fields.next<float>(num_rows * q_size).begin());
  const auto sequences = fields.next<SequenceId>(num_entries);
  const auto positions = fields.next<Position>(num_entries);
  const auto shards = fields.next<ShardId>(num_entries);
  const auto keys = fields.next<float>(num_entries * kv_size);
  const auto values = fields.next<float>(num_entries * kv_size);
  std::size_t entry = 0;
  for (std::size_t row = 0; row < num_rows; ++row) {
    if (!owned(row)) continue;
    sequences[entry] = args.rows.sequences[row];
    positions[entry] = args.rows.positions[row];
    shards[entry] = owners_[row];
    std::copy_n(args.k.data + row * kv_size, kv_size, keys.data() + entry * kv_size);
    std::copy_n(args.v.data + row * kv_size, kv_size, values.data() + entry * kv_size);
    ++entry;
  }
}

void ShardedAttention::answer(const Args& args, const std::vector<int>& holders) {
  batch_ranks_.clear();
  for (std::size_t rank = 0; rank < received_.size(); ++rank) {
    Message& message = received_[rank];
    Message& reply = replies_[rank];
    if (message.size() == 0) {
      reply.resize_discard(0);
      continue;
    }
    MessageFields fields(message);
    const Header header = fields.next<Header>(1)[0];
    const std::int64_t rows = header.num_queries;
    const std::int64_t entries = header.num_entries;
    const auto num_rows = static_cast<std::size_t>(rows);
    const auto num_entries = static_cast<std::size_t>(entries);
    const auto q_size = static_cast<std::size_t>(args.q.row_size());
    const auto kv_size = static_cast<std::size_t>(args.k.row_size());
    const auto num_heads = static_cast<std::size_t>(config_.num_heads);

    if (batches_.size() == batch_ranks_.size()) batches_.emplace_back();
    Batch& request = batches_[batch_ranks_.size()];
    batch_ranks_.push_back(rank);
    request.queries.sequences = fields.next<SequenceId>(num_rows);
    request.queries.positions = fields.next<Position>(num_rows);
    request.queries.q = {fields.next<float>(num_rows * q_size).data(),
                         {rows, config_.num_heads, config_.head_dim}};
    request.entries.layer = args.layer;
    request.entries.sequences = fields.next<SequenceId>(num_entries);
    request.entries.positions = fields.next<Position>(num_entries);
    request.entries.shards = fields.next<ShardId>(num_entries);
    const std::array kv_shape{entries, config_.num_kv_heads, config_.head_dim};
    request.entries.keys = {fields.next<float>(num_entries * kv_size).data(), kv_shape};
    request.entries.values = {fields.next<float>(num_entries * kv_size).data(), kv_shape};

    reply.resize_discard(field_bytes<float>(num_rows * q_size) +
                         field_bytes<float>(num_rows * num_heads));
    MessageFields out(reply);
    request.queries.o = {out.next<float>(num_rows * q_size).data(), request.queries.q.extents};
    request.queries.lse = {out.next<float>(num_rows * num_heads).data(), {rows, config_.num_heads}};
  }
  // All entries before any query: a row may read what another rank's row brings in this step.
  for (std::size_t i = 0; i < batch_ranks_.size(); ++i) append(batches_[i].entries);
  attend(args.layer, args.window, holders, std::span(batches_).first(batch_ranks_.size()));
}

// Every rank that answered learns what its slots' weights are relative to.
void ShardedAttention::exchange_totals(const Args& args, const std::vector<int>& holders) {
  const auto floats = static_cast<std::size_t>(args.rows.size() * config_.num_heads);
  for (std::size_t rank = 0; rank < totals_.size(); ++rank) {
    const bool asked =
        args.rows.size() > 0 && std::ranges::binary_search(holders, static_cast<int>(rank));
    totals_[rank].resize_discard(asked ? field_bytes<float>(floats) : 0);
    if (!asked) continue;
    MessageFields fields(totals_[rank]);
    std::copy_n(lse_.data(), floats, fields.next<float>(floats).begin());
  }
  comm_.all_to_all_v(totals_, received_totals_, "attention totals");
  for (std::size_t i = 0; i < batch_ranks_.size(); ++i) {
    MessageFields fields(received_totals_[batch_ranks_[i]]);
    const auto extents = batches_[i].queries.lse.extents;
    const auto count = static_cast<std::size_t>(extents[0] * extents[1]);
    account(args.window, batches_[i], {fields.next<float>(count).data(), extents});
  }
}

void ShardedAttention::merge(const Args& args) {
  const std::int64_t num_rows = args.rows.size();
  if (num_rows == 0) return;
  const auto q_floats = static_cast<std::size_t>(args.q.size());
  const auto lse_floats = static_cast<std::size_t>(num_rows * config_.num_heads);
  lse_.resize_discard(lse_floats);
  std::fill_n(lse_.data(), lse_floats, -std::numeric_limits<float>::infinity());
  std::fill_n(args.o.data, q_floats, 0.0f);
  const View<float, 2> lse{lse_.data(), {num_rows, config_.num_heads}};
  for (Message& message : results_) {
    if (message.size() == 0) continue;
    MessageFields fields(message);
    const View<const float, 3> from_o{fields.next<float>(q_floats).data(), args.q.extents};
    const View<const float, 2> from_lse{fields.next<float>(lse_floats).data(), lse.extents};
    kernels::merge_states(
        exec_, {.from_o = from_o, .from_lse = from_lse, .into_o = args.o, .into_lse = lse});
  }
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
