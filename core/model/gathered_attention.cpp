// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// ShardedAttention where rows go between GPUs (RowExchange): every rank gets the queries and the
// new entries of all rows, or computes them itself (StepRows::is_shared), appends the entries that
// it owns, attends all rows over what it holds, and gives each row's part back to its rank, or to
// all. Nothing of it passes through the host, but for what page readers exchange.
#include <algorithm>
#include <array>
#include <utility>

#include "core/model/sharded_attention.hpp"
#include "core/model/sized_view.hpp"
#include "kernels/common/error.hpp"
#include "kernels/merge_parts.hpp"
#include "kernels/rows.hpp"

namespace pikv {

void ShardedAttention::run_gathered(const Args& args) {
  const RowsOfRanks& all = args.rows.all;
  const auto rank = static_cast<std::size_t>(comm_.rank());
  require(
      std::ssize(all.first_row) == comm_.size() + 1 &&
          args.rows.size() ==
              (args.rows.is_shared ? all.size() : all.first_row[rank + 1] - all.first_row[rank]) &&
          std::ssize(args.last_expert) == all.size(),
      "attention", "the rows of all ranks do not fit those of this one");
  if (all.size() == 0) return;
  if (args.rows.is_shared) {
    attend_gathered(args, args.q, own_rows(args));
    return;
  }
  const std::int64_t num_all = all.size();
  const std::int64_t kv_heads = config_.num_kv_heads;
  const std::int64_t dim = config_.head_dim;
  const auto q = sized<3>(gathered_.q, {num_all, config_.num_heads, dim});
  const auto k = sized<3>(gathered_.k, {num_all, kv_heads, dim});
  const auto v = sized<3>(gathered_.v, k.extents);
  const std::array new_rows = {row_array(q.row_size(), args.q.data, q.data),
                               row_array(k.row_size(), args.k.data, k.data),
                               row_array(v.row_size(), args.v.data, v.data)};
  config_.exchange->gather(all.first_row, new_rows);
  attend_gathered(args, q, {all.sequences, all.positions, args.last_expert, k, v});
}

void ShardedAttention::attend_gathered(const Args& args, View<const float, 3> q,
                                       const ServedRows& rows) {
  const std::vector<int> holders = shard_map_.ranks_with_shards(args.layer);
  const bool holds = std::ranges::binary_search(holders, comm_.rank());
  const auto o = sized<3>(gathered_.o, q.extents);
  const auto lse = sized<2>(gathered_.lse, {q.extent(0), config_.num_heads});
  batches_.resize(1);
  Batch& batch = batches_[0];
  if (prepares(rows)) {
    PreparedLayer prepared = take_prepared(args.layer, rows, nullptr);
    batch = std::move(prepared.batch);
    batch.queries.q = q;
    if (holds) attend(args.window, batch, prepared.on_device, {.o = o, .lse = lse});
  } else {
    append_here(args.layer, rows);
    batch.queries = {
        .sequences = rows.sequences, .positions = rows.positions, .q = q, .o = o, .lse = lse};
    // Page readers exchange what they chose, so ranks without shards take part, with nothing.
    attend(args.layer, args.window, holders, std::span(batches_).first(holds ? 1 : 0));
  }
  merge_parts(args, holders);
  if (!keeps_account()) return;
  View<const float, 2> totals{lse_.data(), lse.extents};
  if (!args.rows.is_shared) {
    const std::array mine = {row_array(config_.num_heads, lse_.data(), lse.data)};
    config_.exchange->gather(args.rows.all.first_row, mine);
    totals = lse;
  }
  if (holds) account(args.window, batch, totals);
}

/// The entries that this rank owns; a basis maps them one after the other.
void ShardedAttention::append_here(LayerId layer, const ServedRows& rows) {
  KvCache::Entries entries = entries_here(layer, rows);
  if (!entries.rows.empty() && cache_.have_basis(entries.sequences)) {
    const auto count = std::ssize(entries.rows);
    const auto picked = [&](View<const float, 3> from, DeviceBuffer<float>& buffer) {
      const auto to = sized<3>(buffer, {count, from.extent(1), from.extent(2)});
      kernels::gather_rows(exec_,
                           {.table = {from.data, DType::kF32, from.extent(0), from.row_size()},
                            .indices = {exec_.on_device(entries.rows), {count}},
                            .out = {to.data, {count, from.row_size()}}});
      return View<const float, 3>(to);
    };
    entries.keys = picked(entries.keys, gathered_.own_k);
    entries.values = picked(entries.values, gathered_.own_v);
    entries.rows = {};
  }
  append(entries);
}

/// Gives parts back to the ranks of their rows, or all to all ranks, and merges those of this
/// rank's rows in the order of ranks. What ranks without shards give is not looked at.
void ShardedAttention::merge_parts(const Args& args, const std::vector<int>& holders) {
  const auto [num_rows, heads, dim] = args.q.extents;
  const std::int64_t ranks = comm_.size();
  const auto o_parts = sized<4>(gathered_.o_parts, {ranks, num_rows, heads, dim});
  const auto lse_parts = sized<3>(gathered_.lse_parts, {ranks, num_rows, heads});
  const std::array parts = {row_array(heads * dim, gathered_.o.data(), o_parts.data),
                            row_array(heads, gathered_.lse.data(), lse_parts.data)};
  if (args.rows.is_shared) {
    config_.exchange->gather_copies(num_rows, parts);
  } else {
    config_.exchange->give_back(args.rows.all.first_row, parts);
  }
  kernels::merge_parts(exec_, {.from_o = o_parts,
                               .from_lse = lse_parts,
                               .mask = kernels::mask_of(holders),
                               .o = args.o,
                               .lse = sized<2>(lse_, {num_rows, heads})});
}

}  // namespace pikv
