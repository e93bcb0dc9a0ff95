// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// ShardedAttention where ranks send each other messages of host memory: queries and the entries
// that a rank owns go there, partial outputs come back.
#include <algorithm>
#include <array>
#include <limits>

#include "core/comm/message_fields.hpp"
#include "core/model/sharded_attention.hpp"
#include "kernels/common/error.hpp"
#include "kernels/merge_states.hpp"

namespace pikv {
namespace {

struct Header {
  std::int32_t num_queries;
  std::int32_t num_entries;
};

}  // namespace

void ShardedAttention::run_messaged(const Args& args) {
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

}  // namespace pikv
