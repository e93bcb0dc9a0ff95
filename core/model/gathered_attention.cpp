// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// ShardedAttention where rows go between GPUs (RowExchange): every rank gets the queries and the
// new entries of all rows, appends the entries that it owns, attends all rows over what it holds,
// and gives each row's part back to its rank. Nothing of it passes through the host, but for what
// page readers exchange.
#include <algorithm>
#include <array>

#include "core/model/sharded_attention.hpp"
#include "kernels/common/error.hpp"
#include "kernels/merge_parts.hpp"
#include "kernels/rows.hpp"

namespace pikv {
namespace {

template <std::size_t Rank>
View<float, Rank> sized(DeviceBuffer<float>& buffer, std::array<std::int64_t, Rank> extents) {
  const View<float, Rank> view{nullptr, extents};
  buffer.resize_discard(static_cast<std::size_t>(view.size()));
  return {buffer.data(), extents};
}

}  // namespace

void ShardedAttention::run_gathered(const Args& args) {
  const RowsOfRanks& all = args.rows.all;
  const auto rank = static_cast<std::size_t>(comm_.rank());
  require(std::ssize(all.first_row) == comm_.size() + 1 &&
              all.first_row[rank + 1] - all.first_row[rank] == args.rows.size() &&
              std::ssize(args.last_expert) == all.size(),
          "attention", "the rows of all ranks do not fit those of this one");
  if (all.size() == 0) return;
  RowExchange& exchange = *config_.exchange;
  const std::int64_t num_all = all.size();
  const std::int64_t heads = config_.num_heads;
  const std::int64_t kv_heads = config_.num_kv_heads;
  const std::int64_t dim = config_.head_dim;
  const auto q = sized<3>(gathered_.q, {num_all, heads, dim});
  const auto k = sized<3>(gathered_.k, {num_all, kv_heads, dim});
  const auto v = sized<3>(gathered_.v, k.extents);
  const std::array new_rows = {row_array(q.row_size(), args.q.data, q.data),
                               row_array(k.row_size(), args.k.data, k.data),
                               row_array(v.row_size(), args.v.data, v.data)};
  exchange.gather(all.first_row, new_rows);

  owners_.resize(all.positions.size());
  router_.choose_owners({.layer = args.layer,
                         .sequences = all.sequences,
                         .positions = all.positions,
                         .last_expert = args.last_expert,
                         .num_shards = shard_map_.num_shards()},
                        owners_);
  append_owned(args.layer, all, k, v);

  const std::vector<int> holders = shard_map_.ranks_with_shards(args.layer);
  const bool holds = std::ranges::binary_search(holders, comm_.rank());
  const auto o = sized<3>(gathered_.o, q.extents);
  const auto lse = sized<2>(gathered_.lse, {num_all, heads});
  batches_.resize(1);
  batches_[0].queries = {
      .sequences = all.sequences, .positions = all.positions, .q = q, .o = o, .lse = lse};
  // Page readers exchange what they chose, so ranks without shards take part, with nothing.
  attend(args.layer, args.window, holders, std::span(batches_).first(holds ? 1 : 0));
  merge_parts(args, holders);
  if (keeps_account()) {
    const std::array totals = {row_array(heads, lse_.data(), gathered_.lse.data())};
    exchange.gather(all.first_row, totals);
    if (holds) account(args.window, batches_[0], lse);
  }
  cache_.change_basis(&Basis::back_to_values, args.layer, args.rows.sequences, args.o);
}

/// The entries of rows whose owner is a shard of this rank.
void ShardedAttention::append_owned(LayerId layer, const RowsOfRanks& all, View<const float, 3> k,
                                    View<const float, 3> v) {
  gathered_.rows.clear();
  gathered_.sequences.clear();
  gathered_.positions.clear();
  gathered_.shards.clear();
  for (std::size_t row = 0; row < owners_.size(); ++row) {
    if (shard_map_.rank_of(layer, owners_[row]) != comm_.rank()) continue;
    gathered_.rows.push_back(static_cast<std::int32_t>(row));
    gathered_.sequences.push_back(all.sequences[row]);
    gathered_.positions.push_back(all.positions[row]);
    gathered_.shards.push_back(owners_[row]);
  }
  const auto count = std::ssize(gathered_.rows);
  const auto of_these = [&](View<const float, 3> rows, DeviceBuffer<float>& buffer) {
    if (count == rows.extent(0)) return rows;
    const auto to = sized<3>(buffer, {count, rows.extent(1), rows.extent(2)});
    kernels::gather_rows(exec_, {.table = {rows.data, DType::kF32, rows.extent(0), rows.row_size()},
                                 .indices = {exec_.on_device(gathered_.rows), {count}},
                                 .out = {to.data, {count, rows.row_size()}}});
    return View<const float, 3>(to);
  };
  append({.layer = layer,
          .sequences = gathered_.sequences,
          .positions = gathered_.positions,
          .shards = gathered_.shards,
          .keys = of_these(k, gathered_.own_k),
          .values = of_these(v, gathered_.own_v)});
}

/// Gives parts back to the ranks of their rows and merges those of this rank's rows in the order of
/// ranks. What ranks without shards give is not looked at.
void ShardedAttention::merge_parts(const Args& args, const std::vector<int>& holders) {
  const auto [num_rows, heads, dim] = args.q.extents;
  const std::int64_t ranks = comm_.size();
  const auto o_parts = sized<4>(gathered_.o_parts, {ranks, num_rows, heads, dim});
  const auto lse_parts = sized<3>(gathered_.lse_parts, {ranks, num_rows, heads});
  const std::array parts = {row_array(heads * dim, gathered_.o.data(), o_parts.data),
                            row_array(heads, gathered_.lse.data(), lse_parts.data)};
  config_.exchange->give_back(args.rows.all.first_row, parts);
  kernels::merge_parts(exec_, {.from_o = o_parts,
                               .from_lse = lse_parts,
                               .mask = kernels::mask_of(holders),
                               .o = args.o,
                               .lse = sized<2>(lse_, {num_rows, heads})});
}

}  // namespace pikv
