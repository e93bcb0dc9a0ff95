// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/sharded_experts.hpp"

#include <algorithm>

#include "core/comm/message_fields.hpp"
#include "kernels/merge_parts.hpp"
#include "kernels/rows.hpp"

namespace pikv {

ShardedExperts::ShardedExperts(Exec& exec, Communicator& comm, const ShardMap& shard_map,
                               RowExchange* exchange)
    : exec_(exec),
      comm_(comm),
      shard_map_(shard_map),
      mlps_(exec),
      send_(make_messages(comm)),
      received_(make_messages(comm)),
      replies_(make_messages(comm)),
      results_(make_messages(comm)),
      sent_rows_(static_cast<std::size_t>(comm.size())),
      exchange_(exchange),
      gathered_{exec.device()} {}

void ShardedExperts::run(const Args& args) {
  if (exchange_ != nullptr) {
    run_gathered(args);
    return;
  }
  if (comm_.size() == 1) {
    const ExpertMlps::Args all{.weights = args.weights,
                               .x = args.x,
                               .experts = args.experts,
                               .mix = args.mix,
                               .y = args.y};
    exec_.device() == Device::kCuda ? mlps_.run_on_gpu(all) : mlps_.run(all);
    return;
  }
  for (int rank = 0; rank < comm_.size(); ++rank) pack(args, rank);
  comm_.all_to_all_v(send_, received_, "expert inputs");
  answer(args);
  comm_.all_to_all_v(replies_, results_, "expert outputs");
  combine(args);
}

/// The rows of all ranks.
ExpertMlps::Args ShardedExperts::gather(const Args& args) {
  const std::int64_t hidden = args.x.extent(1);
  const std::int64_t k = args.experts.extent(1);
  const std::int64_t num_all = args.first_row.back();
  gathered_.y.resize_discard(static_cast<std::size_t>(num_all * hidden));
  const View<float, 2> y{gathered_.y.data(), {num_all, hidden}};
  if (args.is_shared) {
    return {.weights = args.weights, .x = args.x, .experts = args.experts, .mix = args.mix, .y = y};
  }
  const auto num_choices = static_cast<std::size_t>(num_all * k);
  gathered_.x.resize_discard(gathered_.y.size());
  gathered_.mix.resize_discard(num_choices);
  gathered_.experts.resize_discard(num_choices);
  const std::array inputs = {row_array(hidden, args.x.data, gathered_.x.data()),
                             row_array(k, args.mix.data, gathered_.mix.data()),
                             row_array(k, args.experts.data, gathered_.experts.data())};
  exchange_->gather(args.first_row, inputs);
  return {.weights = args.weights,
          .x = {gathered_.x.data(), y.extents},
          .experts = experts_of_all(),
          .mix = {gathered_.mix.data(), gathered_.shape},
          .y = y};
}

void ShardedExperts::run_gathered(const Args& args) {
  gathered_.shape = {args.first_row.back(), args.experts.extent(1)};
  if (gathered_.shape[0] == 0) return;
  const auto [num_rows, hidden] = args.x.extents;
  ExpertMlps::Args all = gather(args);
  if (exec_.device() == Device::kCuda) {
    mlps_.run_on_gpu(all);
  } else {
    own_experts_.assign(all.experts.data, all.experts.data + all.experts.size());
    for (std::int32_t& expert : own_experts_) {
      const bool here = shard_map_.rank_of(args.layer, id_from<ShardId>(expert)) == comm_.rank();
      if (!here) expert = -1;
    }
    all.experts.data = own_experts_.data();
    mlps_.run(all);
  }
  gathered_.parts.resize_discard(static_cast<std::size_t>(comm_.size() * num_rows * hidden));
  const std::array outputs = {row_array(hidden, gathered_.y.data(), gathered_.parts.data())};
  if (args.is_shared) {
    exchange_->gather_copies(num_rows, outputs);
  } else {
    exchange_->give_back(args.first_row, outputs);
  }
  // Of the ranks with experts of the layer, in their order.
  kernels::sum_parts(exec_, {.from = {gathered_.parts.data(), {comm_.size(), num_rows, hidden}},
                             .mask = kernels::mask_of(shard_map_.ranks_with_shards(args.layer)),
                             .y = args.y});
}

// The message to a rank: the number of rows; for each its K experts, those of other ranks as -1,
// and their weights; its hidden state.
void ShardedExperts::pack(const Args& args, int rank) {
  const std::int64_t k = args.experts.extent(1);
  const auto is_there = [&](std::int32_t expert) {
    return shard_map_.rank_of(args.layer, id_from<ShardId>(expert)) == rank;
  };
  std::vector<std::int32_t>& rows = sent_rows_[static_cast<std::size_t>(rank)];
  rows.clear();
  for (std::int64_t t = 0; t < args.x.extent(0); ++t) {
    if (std::any_of(args.experts.row(t), args.experts.row(t) + k, is_there)) {
      rows.push_back(static_cast<std::int32_t>(t));
    }
  }
  Message& message = send_[static_cast<std::size_t>(rank)];
  if (rows.empty()) {
    message.resize_discard(0);
    return;
  }
  const std::size_t num_rows = rows.size();
  const auto num_choices = num_rows * static_cast<std::size_t>(k);
  const auto hidden = static_cast<std::size_t>(args.x.extent(1));
  message.resize_discard(field_bytes<std::int64_t>(1) + field_bytes<std::int32_t>(num_choices) +
                         field_bytes<float>(num_choices) + field_bytes<float>(num_rows * hidden));
  MessageFields fields(message);
  fields.next<std::int64_t>(1)[0] = static_cast<std::int64_t>(num_rows);
  auto experts = fields.next<std::int32_t>(num_choices).begin();
  auto mix = fields.next<float>(num_choices).begin();
  auto x = fields.next<float>(num_rows * hidden).begin();
  for (const std::int32_t row : rows) {
    experts = std::transform(args.experts.row(row), args.experts.row(row) + k, experts,
                             [&](std::int32_t e) { return is_there(e) ? e : -1; });
    mix = std::copy_n(args.mix.row(row), k, mix);
    x = std::copy_n(args.x.row(row), hidden, x);
  }
}

void ShardedExperts::answer(const Args& args) {
  const std::int64_t k = args.experts.extent(1);
  const std::int64_t hidden = args.x.extent(1);
  for (std::size_t rank = 0; rank < received_.size(); ++rank) {
    Message& message = received_[rank];
    Message& reply = replies_[rank];
    if (message.size() == 0) {
      reply.resize_discard(0);
      continue;
    }
    MessageFields fields(message);
    const std::int64_t rows = fields.next<std::int64_t>(1)[0];
    const auto num_choices = static_cast<std::size_t>(rows * k);
    const auto num_floats = static_cast<std::size_t>(rows * hidden);
    const auto experts = fields.next<std::int32_t>(num_choices);
    const auto mix = fields.next<float>(num_choices);
    const auto x = fields.next<float>(num_floats);
    reply.resize_discard(field_bytes<float>(num_floats));
    const auto y = MessageFields(reply).next<float>(num_floats);
    mlps_.run({.weights = args.weights,
               .x = {x.data(), {rows, hidden}},
               .experts = {experts.data(), {rows, k}},
               .mix = {mix.data(), {rows, k}},
               .y = {y.data(), {rows, hidden}}});
  }
}

void ShardedExperts::combine(const Args& args) {
  const std::int64_t num_rows = args.x.extent(0);
  const std::int64_t hidden = args.x.extent(1);
  std::fill_n(args.y.data, args.y.size(), 0.0f);
  ones_.assign(static_cast<std::size_t>(num_rows), 1.0f);
  std::vector<std::int32_t> slots;
  for (std::size_t rank = 0; rank < results_.size(); ++rank) {
    const std::vector<std::int32_t>& rows = sent_rows_[rank];
    if (rows.empty()) continue;
    const auto outputs =
        MessageFields(results_[rank]).next<float>(rows.size() * static_cast<std::size_t>(hidden));
    slots.assign(static_cast<std::size_t>(num_rows), -1);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      slots[static_cast<std::size_t>(rows[i])] = static_cast<std::int32_t>(i);
    }
    kernels::combine_rows(
        exec_, {.rows = {outputs.data(), {static_cast<std::int64_t>(rows.size()), hidden}},
                .slots = {slots.data(), {num_rows, 1}},
                .weights = {ones_.data(), {num_rows, 1}},
                .out = args.y});
  }
}

}  // namespace pikv
