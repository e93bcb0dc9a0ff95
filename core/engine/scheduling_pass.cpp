// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/scheduling_pass.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/comm/message_fields.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// Order of the positions, ascending.
std::vector<std::size_t> sorted_order(const std::vector<Position>& positions) {
  std::vector<std::size_t> order(positions.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return positions[i]; });
  return order;
}

template <class T>
std::vector<T> reordered(const std::vector<T>& items, const std::vector<std::size_t>& order,
                         std::size_t row_size) {
  std::vector<T> result(items.size());
  if (items.empty()) return result;
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(items.begin() + static_cast<std::ptrdiff_t>(order[i] * row_size), row_size,
                result.begin() + static_cast<std::ptrdiff_t>(i * row_size));
  }
  return result;
}

template <class T>
void append(MessageFields& fields, std::size_t count, std::vector<T>& to) {
  const auto items = fields.next<T>(count);
  to.insert(to.end(), items.begin(), items.end());
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
      needs_(parts.scheduler.needs()),
      inverse_frequencies_(inverse_frequencies(parts.model)),
      send_(make_messages(parts.comm.size())),
      received_(make_messages(parts.comm.size())) {}

void SchedulingPass::run(SequenceId sequence, Position next) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t num_layers = parts_.model.num_layers;
  const std::int64_t num_heads = parts_.model.num_kv_heads;
  const int size = parts_.comm.size();
  scores_ = {.sequence = sequence,
             .next_position = next,
             .num_kv_heads = num_heads,
             .heads = std::vector<HeadScores>(static_cast<std::size_t>(num_layers * num_heads))};
  for (std::int64_t first = 0; first < num_layers; first += size) {
    for (int rank = 0; rank < size; ++rank) {
      Message& message = send_[static_cast<std::size_t>(rank)];
      message.resize_discard(0);
      if (first + rank < num_layers) pack(sequence, id_from<LayerId>(first + rank), next, message);
    }
    parts_.comm.all_to_all_v(send_, received_, "slots to score");
    const std::int64_t mine = first + parts_.comm.rank();
    if (mine < num_layers) score(sequence, id_from<LayerId>(mine), next);
    share(id_from<LayerId>(first), mine < num_layers);
  }
  apply(sequence);
  ++stats_.num_passes;
  stats_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The message to the rank that scores a layer: for each KV head a count and that many positions,
// keys and values; a count and that many positions and queries; the sums of the moments.
void SchedulingPass::pack(SequenceId sequence, LayerId layer, Position next,
                          Message& message) const {
  const auto head_dim = static_cast<std::size_t>(parts_.model.head_dim);
  const auto row_size = static_cast<std::size_t>(parts_.model.num_heads) * head_dim;
  std::vector<KvCache::HeadContents> heads(static_cast<std::size_t>(parts_.model.num_kv_heads));
  std::size_t bytes = 0;
  for (std::size_t h = 0; h < heads.size(); ++h) {
    parts_.cache.read_slots(sequence, layer, id_from<HeadId>(h), needs_.keys, needs_.values,
                            heads[h]);
    bytes += field_bytes<std::uint64_t>(1) + field_bytes<Position>(heads[h].positions.size()) +
             field_bytes<float>(heads[h].keys.size()) + field_bytes<float>(heads[h].values.size());
  }
  QueryTap::Rows rows;
  if (needs_.query_rows > 0) {
    rows = parts_.tap.rows(sequence, layer, next - static_cast<Position>(needs_.query_rows));
  }
  bytes += field_bytes<std::uint64_t>(1) + field_bytes<Position>(rows.positions.size()) +
           field_bytes<float>(rows.positions.size() * row_size);
  std::vector<double> sums;
  if (needs_.query_moments) sums = parts_.tap.moment_sums(sequence, layer);
  bytes += field_bytes<double>(sums.size());

  message.resize_discard(bytes);
  MessageFields fields(message);
  for (const KvCache::HeadContents& head : heads) {
    fields.next<std::uint64_t>(1)[0] = head.positions.size();
    std::ranges::copy(head.positions, fields.next<Position>(head.positions.size()).begin());
    std::ranges::copy(head.keys, fields.next<float>(head.keys.size()).begin());
    std::ranges::copy(head.values, fields.next<float>(head.values.size()).begin());
  }
  fields.next<std::uint64_t>(1)[0] = rows.positions.size();
  std::ranges::copy(rows.positions, fields.next<Position>(rows.positions.size()).begin());
  std::ranges::copy(rows.queries, fields.next<float>(rows.queries.size()).begin());
  std::ranges::copy(sums, fields.next<double>(sums.size()).begin());
}

void SchedulingPass::unpack_head(std::vector<MessageFields>& messages, Head& head) const {
  const auto head_dim = static_cast<std::size_t>(parts_.model.head_dim);
  for (MessageFields& fields : messages) {
    const auto count = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
    append(fields, count, head.positions);
    append(fields, needs_.keys ? count * head_dim : 0, head.keys);
    append(fields, needs_.values ? count * head_dim : 0, head.values);
  }
  const std::vector<std::size_t> order = sorted_order(head.positions);
  head.positions = reordered(head.positions, order, 1);
  head.keys = reordered(head.keys, order, head_dim);
  head.values = reordered(head.values, order, head_dim);
}

SchedulingPass::Layer SchedulingPass::unpack(LayerId layer) {
  std::vector<MessageFields> messages(received_.begin(), received_.end());
  Layer result;
  result.heads.resize(static_cast<std::size_t>(parts_.model.num_kv_heads));
  for (Head& head : result.heads) unpack_head(messages, head);

  const auto num_heads = static_cast<std::size_t>(parts_.model.num_heads);
  const auto head_dim = static_cast<std::size_t>(parts_.model.head_dim);
  std::vector<double> sums;
  for (MessageFields& fields : messages) {
    const auto count = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
    append(fields, count, result.query_positions);
    append(fields, count * num_heads * head_dim, result.queries);
    if (!needs_.query_moments) continue;
    const auto more = fields.next<double>(1 + num_heads * head_dim * (1 + head_dim));
    sums.resize(more.size());
    for (std::size_t i = 0; i < more.size(); ++i) sums[i] += more[i];
  }
  const std::vector<std::size_t> order = sorted_order(result.query_positions);
  result.query_positions = reordered(result.query_positions, order, 1);
  result.queries = reordered(result.queries, order, num_heads * head_dim);

  if (needs_.query_moments && sums[0] > 0) {
    result.moment_count = static_cast<std::int64_t>(sums[0]);
    const double* mean = sums.data() + 1;
    const double* products = mean + num_heads * head_dim;
    for (std::size_t i = 0; i < num_heads * head_dim; ++i) {
      result.mean.push_back(static_cast<float>(mean[i] / sums[0]));
    }
    for (std::size_t h = 0; h < num_heads; ++h) {
      const double* m = mean + h * head_dim;
      for (std::size_t i = 0; i < head_dim; ++i) {
        for (std::size_t j = 0; j < head_dim; ++j) {
          const double second = products[(h * head_dim + i) * head_dim + j] / sums[0];
          result.covariance.push_back(
              static_cast<float>(second - m[i] / sums[0] * (m[j] / sums[0])));
        }
      }
    }
  }
  if (needs_.output_projection) {
    result.output_projection = by_heads(parts_.weights.layer(layer).attention.o,
                                        parts_.model.num_heads, parts_.model.head_dim);
  }
  return result;
}

void SchedulingPass::score(SequenceId sequence, LayerId layer, Position next) {
  const Layer gathered = unpack(layer);
  const std::int64_t head_dim = parts_.model.head_dim;
  const std::int64_t num_heads = parts_.model.num_heads;
  std::vector<HeadSlots> heads;
  layer_scores_.resize(gathered.heads.size());
  layer_positions_.clear();
  for (std::size_t h = 0; h < gathered.heads.size(); ++h) {
    const Head& head = gathered.heads[h];
    const auto count = static_cast<std::int64_t>(head.positions.size());
    heads.push_back({.positions = head.positions,
                     .keys = {head.keys.data(), {needs_.keys ? count : 0, head_dim}},
                     .values = {head.values.data(), {needs_.values ? count : 0, head_dim}}});
    layer_scores_[h].assign(head.positions.size(), 0.0f);
    layer_positions_.push_back(head.positions);
  }
  const auto num_queries = static_cast<std::int64_t>(gathered.query_positions.size());
  parts_.scheduler.score(
      exec_,
      {.sequence = sequence,
       .layer = layer,
       .next_position = next,
       .heads = heads,
       .queries = {gathered.queries.data(), {num_queries, num_heads, head_dim}},
       .query_positions = gathered.query_positions,
       .moments = {.count = gathered.moment_count,
                   .mean = {gathered.mean.data(), {num_heads, head_dim}},
                   .covariance = {gathered.covariance.data(), {num_heads, head_dim, head_dim}}},
       .inverse_frequencies = inverse_frequencies_,
       .output_projection = {gathered.output_projection.data(),
                             {num_heads, parts_.model.hidden_size, head_dim}},
       .budget = parts_.budget},
      layer_scores_);
  for (std::size_t h = 0; h < heads.size(); ++h) {
    ensure(layer_scores_[h].size() == heads[h].positions.size(), "one score a slot");
    for (const float s : layer_scores_[h]) {
      if (s != s) {
        throw Error(concat("scheduler: a score of layer ", index(layer), ", KV head ", h,
                           " is not a number"));
      }
    }
  }
}

// Everyone learns positions and scores of the layers that were scored in this round.
void SchedulingPass::share(LayerId first, bool scored) {
  for (Message& message : send_) {
    message.resize_discard(0);
    if (!scored) continue;
    std::size_t bytes = 0;
    for (const auto& scores : layer_scores_) {
      bytes += field_bytes<std::uint64_t>(1) + field_bytes<Position>(scores.size()) +
               field_bytes<float>(scores.size());
    }
    message.resize_discard(bytes);
    MessageFields fields(message);
    for (std::size_t h = 0; h < layer_scores_.size(); ++h) {
      fields.next<std::uint64_t>(1)[0] = layer_scores_[h].size();
      std::ranges::copy(layer_positions_[h],
                        fields.next<Position>(layer_positions_[h].size()).begin());
      std::ranges::copy(layer_scores_[h], fields.next<float>(layer_scores_[h].size()).begin());
    }
  }
  parts_.comm.all_to_all_v(send_, received_, "scores");
  for (std::size_t rank = 0; rank < received_.size(); ++rank) {
    if (received_[rank].size() == 0) continue;
    MessageFields fields(received_[rank]);
    const std::size_t layer = index(first) + rank;
    for (std::int64_t h = 0; h < scores_.num_kv_heads; ++h) {
      HeadScores& to = scores_.heads[layer * static_cast<std::size_t>(scores_.num_kv_heads) +
                                     static_cast<std::size_t>(h)];
      const auto count = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
      append(fields, count, to.positions);
      append(fields, count, to.scores);
    }
  }
}

void SchedulingPass::apply(SequenceId sequence) {
  std::vector<std::vector<std::int32_t>> keep(scores_.heads.size());
  parts_.scheduler.select(scores_, parts_.budget, keep);
  std::vector<std::vector<Position>> kept(scores_.heads.size());
  for (std::size_t i = 0; i < keep.size(); ++i) {
    for (const std::int32_t slot : keep[i]) {
      kept[i].push_back(scores_.heads[i].positions[static_cast<std::size_t>(slot)]);
    }
    stats_.num_kept += static_cast<std::int64_t>(keep[i].size());
    stats_.num_evicted +=
        static_cast<std::int64_t>(scores_.heads[i].positions.size() - keep[i].size());
  }
  std::vector<std::int32_t> subscripts;
  for (const StreamId& stream : parts_.cache.stream_ids(sequence)) {
    const auto& wanted = kept[index(stream.layer) * static_cast<std::size_t>(scores_.num_kv_heads) +
                              index(stream.kv_head)];
    const std::vector<Position> positions = parts_.cache.positions(stream);
    subscripts.clear();
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (std::ranges::binary_search(wanted, positions[i])) {
        subscripts.push_back(static_cast<std::int32_t>(i));
      }
    }
    parts_.cache.keep_slots(stream, subscripts);
  }
}

}  // namespace pikv
