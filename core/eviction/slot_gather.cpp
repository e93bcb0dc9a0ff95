// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/slot_gather.hpp"

#include <algorithm>
#include <numeric>

#include "core/comm/message_fields.hpp"

namespace pikv {
namespace {

template <class T>
void put(MessageFields& fields, const std::vector<T>& items) {
  std::ranges::copy(items, fields.next<T>(items.size()).begin());
}

template <class T>
void append(MessageFields& fields, std::size_t count, std::vector<T>& to) {
  const auto items = fields.next<T>(count);
  to.insert(to.end(), items.begin(), items.end());
}

}  // namespace

SlotGather::SlotGather(const ModelConfig& model, const KvCache& cache, const AttentionTap& tap,
                       Communicator& comm)
    : model_(model),
      cache_(cache),
      tap_(tap),
      comm_(comm),
      send_(make_messages(comm.size())),
      received_(make_messages(comm.size())),
      parts_(static_cast<std::size_t>(model.num_layers * model.num_kv_heads)) {}

std::vector<SlotGather::Run> SlotGather::runs(SequenceId sequence, std::size_t head,
                                              std::span<const std::int64_t> counts) const {
  const auto num_heads = static_cast<std::size_t>(model_.num_kv_heads);
  const auto before = counts.first(static_cast<std::size_t>(comm_.rank()));
  auto begin =
      static_cast<std::int32_t>(std::accumulate(before.begin(), before.end(), std::int64_t{0}));
  std::vector<Run> runs;
  for (const KvCache::HeadContents::Part& part : parts_[head]) {
    runs.push_back({.stream = {sequence, id_from<LayerId>(head / num_heads),
                               id_from<HeadId>(head % num_heads), part.shard},
                    .begin = begin,
                    .end = begin + part.num_slots});
    begin += part.num_slots;
  }
  return runs;
}

std::span<SlotGather::Layer> SlotGather::run(SequenceId sequence, Position next,
                                             const SchedulerNeeds& needs, std::int64_t first,
                                             std::int64_t last) {
  shares_.resize(std::max(shares_.size(), static_cast<std::size_t>(last - first)));
  read_slots(sequence, needs, first, last);
  std::size_t num_mine = 0;
  for (std::int64_t layer = first; layer < last; ++layer) {
    read_tap(sequence, next, needs, id_from<LayerId>(layer),
             shares_[static_cast<std::size_t>(layer - first)]);
    if (rank_of(layer) == comm_.rank()) ++num_mine;
  }
  layers_.resize(std::max(layers_.size(), num_mine));
  std::vector<MessageFields> messages;
  if (comm_.size() > 1) {
    exchange(first, last);
    for (Message& message : received_) messages.emplace_back(message);
  }
  auto mine = layers_.begin();
  for (std::int64_t layer = first; layer < last; ++layer) {
    if (rank_of(layer) != comm_.rank()) continue;
    mine->layer = id_from<LayerId>(layer);
    mine->heads.resize(static_cast<std::size_t>(model_.num_kv_heads));
    Share& share = shares_[static_cast<std::size_t>(layer - first)];
    if (comm_.size() > 1) {
      share.rows = {};
      share.moment_sums.clear();
      share.key_sums.clear();
      add_share(messages, needs, *mine, share);
    } else {
      for (std::size_t h = 0; h < mine->heads.size(); ++h) {
        std::swap(mine->heads[h].slots, share.heads[h]);
        mine->heads[h].counts.assign(
            1, static_cast<std::int64_t>(mine->heads[h].slots.positions.size()));
      }
    }
    add_queries(share, *mine);
    add_moments(share.moment_sums, *mine);
    add_key_moments(share.key_sums, *mine);
    ++mine;
  }
  return {layers_.data(), num_mine};
}

void SlotGather::read_slots(SequenceId sequence, const SchedulerNeeds& needs, std::int64_t first,
                            std::int64_t last) {
  std::vector<KvCache::HeadContents*> contents;
  for (std::int64_t layer = first; layer < last; ++layer) {
    Share& share = shares_[static_cast<std::size_t>(layer - first)];
    share.heads.resize(static_cast<std::size_t>(model_.num_kv_heads));
    for (KvCache::HeadContents& head : share.heads) contents.push_back(&head);
  }
  cache_.read_slots(sequence, first, last, needs.keys, needs.values, contents);
  auto parts = parts_.begin() + first * model_.num_kv_heads;
  for (const KvCache::HeadContents* head : contents) *parts++ = head->parts;
}

void SlotGather::read_tap(SequenceId sequence, Position next, const SchedulerNeeds& needs,
                          LayerId layer, Share& share) const {
  share.rows.positions.clear();
  share.rows.queries.clear();
  share.rows_in_tap.reset();
  share.moment_sums.clear();
  share.key_sums.clear();
  if (needs.key_moments) share.key_sums = tap_.key_sums(sequence, layer);
  if (needs.query_rows > 0) {
    const std::int64_t first = std::max<std::int64_t>(next - needs.query_rows, 0);
    const auto oldest = static_cast<Position>(first);
    // Megabytes a layer where all rows are asked for: they need not move if nobody else has some.
    if (comm_.size() == 1) share.rows_in_tap = tap_.rows_in_order(sequence, layer, oldest);
    if (!share.rows_in_tap) tap_.read_rows(sequence, layer, oldest, share.rows);
  }
  if (needs.query_moments) share.moment_sums = tap_.moment_sums(sequence, layer);
}

std::size_t SlotGather::bytes_of(const Share& share) {
  std::size_t bytes = 0;
  for (const KvCache::HeadContents& head : share.heads) {
    bytes += field_bytes<std::uint64_t>(1) + field_bytes<Position>(head.positions.size()) +
             field_bytes<float>(head.keys.size()) + field_bytes<float>(head.values.size()) +
             field_bytes<float>(head.columns.size()) +
             field_bytes<double>(head.evicted_columns.size());
  }
  return bytes + field_bytes<std::uint64_t>(1) +
         field_bytes<Position>(share.rows.positions.size()) +
         field_bytes<float>(share.rows.queries.size()) +
         field_bytes<double>(share.moment_sums.size()) + field_bytes<double>(share.key_sums.size());
}

// The message to a rank: layer by layer, for each KV head a count and that many positions, keys,
// values and columns, and the sums of evicted columns; a count and that many positions and queries;
// the sums of the moments.
void SlotGather::exchange(std::int64_t first, std::int64_t last) {
  for (int rank = 0; rank < comm_.size(); ++rank) {
    const auto for_each = [&](const auto& f) {
      for (std::int64_t layer = first; layer < last; ++layer) {
        if (rank_of(layer) == rank) f(shares_[static_cast<std::size_t>(layer - first)]);
      }
    };
    std::size_t bytes = 0;
    for_each([&](const Share& share) { bytes += bytes_of(share); });
    Message& message = send_[static_cast<std::size_t>(rank)];
    message.resize_discard(bytes);
    MessageFields fields(message);
    for_each([&](const Share& share) {
      for (const KvCache::HeadContents& head : share.heads) {
        fields.next<std::uint64_t>(1)[0] = head.positions.size();
        put(fields, head.positions);
        put(fields, head.keys);
        put(fields, head.values);
        put(fields, head.columns);
        put(fields, head.evicted_columns);
      }
      fields.next<std::uint64_t>(1)[0] = share.rows.positions.size();
      put(fields, share.rows.positions);
      put(fields, share.rows.queries);
      put(fields, share.moment_sums);
      put(fields, share.key_sums);
    });
  }
  comm_.all_to_all_v(send_, received_, "slots to score");
}

/// The next layer of every rank's message.
void SlotGather::add_share(std::vector<MessageFields>& messages, const SchedulerNeeds& needs,
                           Layer& layer, Share& sum) const {
  const auto head_dim = static_cast<std::size_t>(model_.head_dim);
  const auto num_heads = static_cast<std::size_t>(model_.num_heads);
  const auto num_kv_heads = static_cast<std::size_t>(model_.num_kv_heads);
  const auto num_columns = static_cast<std::size_t>(cache_.open_layout().columns.count());
  const auto add = [](MessageFields& fields, std::size_t count, std::vector<double>& to) {
    to.resize(count);
    const auto more = fields.next<double>(count);
    for (std::size_t i = 0; i < count; ++i) to[i] += more[i];
  };
  for (Head& head : layer.heads) head = {};
  for (MessageFields& fields : messages) {
    for (Head& head : layer.heads) {
      const auto count = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
      head.counts.push_back(static_cast<std::int64_t>(count));
      append(fields, count, head.slots.positions);
      append(fields, needs.keys ? count * head_dim : 0, head.slots.keys);
      append(fields, needs.values ? count * head_dim : 0, head.slots.values);
      append(fields, count * num_columns, head.slots.columns);
      add(fields, num_columns, head.slots.evicted_columns);
    }
    const auto count = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
    append(fields, count, sum.rows.positions);
    append(fields, count * num_heads * head_dim, sum.rows.queries);
    if (needs.query_moments) {
      add(fields, 1 + num_heads * head_dim * (1 + head_dim), sum.moment_sums);
    }
    if (needs.key_moments) add(fields, 1 + num_kv_heads * (head_dim + 1), sum.key_sums);
  }
}

void SlotGather::add_queries(Share& share, Layer& layer) const {
  if (share.rows_in_tap) {
    layer.query_positions = share.rows_in_tap->positions;
    layer.queries = share.rows_in_tap->queries;
    return;
  }
  const AttentionTap::Rows& rows = share.rows;
  const auto row_size = static_cast<std::ptrdiff_t>(model_.num_heads * model_.head_dim);
  std::vector<std::size_t> order(rows.positions.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return rows.positions[i]; });
  layer.rows.positions.clear();
  layer.rows.queries.clear();
  for (const std::size_t i : order) {
    layer.rows.positions.push_back(rows.positions[i]);
    const auto begin = rows.queries.begin() + static_cast<std::ptrdiff_t>(i) * row_size;
    layer.rows.queries.insert(layer.rows.queries.end(), begin, begin + row_size);
  }
  layer.query_positions = layer.rows.positions;
  layer.queries = layer.rows.queries;
}

void SlotGather::add_moments(const std::vector<double>& sums, Layer& layer) const {
  layer.moment_count = 0;
  layer.mean.clear();
  layer.covariance.clear();
  if (sums.empty() || sums[0] == 0) return;
  const auto num_heads = static_cast<std::size_t>(model_.num_heads);
  const auto head_dim = static_cast<std::size_t>(model_.head_dim);
  layer.moment_count = static_cast<std::int64_t>(sums[0]);
  const double* mean = sums.data() + 1;
  const double* products = mean + num_heads * head_dim;
  for (std::size_t i = 0; i < num_heads * head_dim; ++i) {
    layer.mean.push_back(static_cast<float>(mean[i] / sums[0]));
  }
  for (std::size_t h = 0; h < num_heads; ++h) {
    const double* m = mean + h * head_dim;
    for (std::size_t i = 0; i < head_dim; ++i) {
      for (std::size_t j = 0; j < head_dim; ++j) {
        const double second = products[(h * head_dim + i) * head_dim + j] / sums[0];
        layer.covariance.push_back(static_cast<float>(second - m[i] / sums[0] * (m[j] / sums[0])));
      }
    }
  }
}

void SlotGather::add_key_moments(const std::vector<double>& sums, Layer& layer) const {
  layer.key_count = 0;
  layer.key_means.clear();
  layer.key_deviations.clear();
  if (sums.empty() || sums[0] == 0) return;
  const auto heads = static_cast<std::size_t>(model_.num_kv_heads);
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  layer.key_count = static_cast<std::int64_t>(sums[0]);
  for (std::size_t h = 0; h < heads; ++h) {
    double square_of_mean = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      const double mean = sums[1 + h * dim + d] / sums[0];
      layer.key_means.push_back(static_cast<float>(mean));
      square_of_mean += mean * mean;
    }
    const double squares = sums[1 + heads * dim + h] / sums[0];
    layer.key_deviations.push_back(static_cast<float>(std::max(squares - square_of_mean, 0.0)));
  }
}

}  // namespace pikv
