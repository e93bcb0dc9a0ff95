// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/attention_map.hpp"

#include <algorithm>
#include <span>

#include "core/comm/message_fields.hpp"
#include "core/eviction/row_weights.hpp"
#include "core/eviction/slot_gather.hpp"
#include "core/eviction/slot_order.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

class Mapper {
 public:
  Mapper(const AttentionMapParts& parts, const AttentionMap& map)
      : map_(map), weights_(parts.exec, parts.model) {}

  /// The heads of a layer that is whole on this rank.
  [[nodiscard]] std::vector<AttentionMap::Head> map(SlotGather::Layer& layer) {
    std::vector<AttentionMap::Head> heads;
    for (std::size_t h = 0; h < layer.heads.size(); ++h) {
      KvCache::HeadContents& slots = layer.heads[h].slots;
      reorder(slots, sorted_order(slots.positions));
      heads.push_back(add_up(layer, h));
    }
    return heads;
  }

 private:
  [[nodiscard]] AttentionMap::Head add_up(const SlotGather::Layer& layer, std::size_t kv_head) {
    const std::vector<Position>& positions = layer.heads[kv_head].slots.positions;
    const std::size_t n = positions.size();
    const auto num_queries = static_cast<std::int64_t>(layer.query_positions.size());
    const std::int64_t group = weights_.group();
    const View<const float, 2> rows = weights_.compute(layer, kv_head, 0, num_queries);
    const auto num_bins = static_cast<std::size_t>(map_.num_bins());
    std::vector<double> sums(n);
    std::vector<double> cells(static_cast<std::size_t>(map_.num_rows) * num_bins);
    std::vector<std::int64_t> queries_of_row(static_cast<std::size_t>(map_.num_rows));
    for (std::int64_t q = 0; q < num_queries; ++q) {
      const auto row = static_cast<std::size_t>(q * map_.num_rows / num_queries);
      ++queries_of_row[row];
      for (std::int64_t g = 0; g < group; ++g) {
        const float* weights = rows.row(q * group + g);
        for (std::size_t i = 0; i < n; ++i) {
          sums[i] += static_cast<double>(weights[i]);
          cells[row * num_bins + static_cast<std::size_t>(positions[i] / map_.bin_positions)] +=
              static_cast<double>(weights[i]);
        }
      }
    }
    AttentionMap::Head head{.positions = positions, .weights = {}, .cells = {}};
    for (const double sum : sums) {
      head.weights.push_back(static_cast<float>(sum / static_cast<double>(num_queries * group)));
    }
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto count = static_cast<double>(queries_of_row[i / num_bins] * group);
      head.cells.push_back(static_cast<float>(cells[i] / count));
    }
    return head;
  }

  const AttentionMap& map_;
  RowWeights weights_;
};

// To rank 0: layer by layer, for each KV head a count and that many positions and weights, and the
// cells.
void send(const std::vector<std::vector<AttentionMap::Head>>& layers, Message& message) {
  std::size_t bytes = 0;
  for (const auto& heads : layers) {
    for (const AttentionMap::Head& head : heads) {
      bytes += field_bytes<std::uint64_t>(1) + field_bytes<Position>(head.positions.size()) +
               field_bytes<float>(head.weights.size()) + field_bytes<float>(head.cells.size());
    }
  }
  message.resize_discard(bytes);
  MessageFields fields(message);
  const auto put = [&]<class T>(const std::vector<T>& items) {
    std::ranges::copy(items, fields.next<T>(items.size()).begin());
  };
  for (const auto& heads : layers) {
    for (const AttentionMap::Head& head : heads) {
      fields.next<std::uint64_t>(1)[0] = head.positions.size();
      put(head.positions);
      put(head.weights);
      put(head.cells);
    }
  }
}

AttentionMap::Head receive(MessageFields& fields, std::size_t num_cells) {
  const auto n = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
  AttentionMap::Head head;
  const auto take = [&]<class T>(std::size_t count, std::vector<T>& to) {
    const auto items = fields.next<T>(count);
    to.assign(items.begin(), items.end());
  };
  take(n, head.positions);
  take(n, head.weights);
  take(num_cells, head.cells);
  return head;
}

}  // namespace

AttentionMap map_attention(const AttentionMapParts& parts, SequenceId sequence, Position next,
                           const AttentionMapShape& shape) {
  require(next > 0 && shape.num_queries > 0 && shape.max_rows > 0 && shape.max_bins > 0,
          "map_attention", "nothing to map: ", next, " positions, ", shape.num_queries,
          " queries, ", shape.max_rows, " rows, ", shape.max_bins, " bins");
  const std::int64_t num_queries = std::min<std::int64_t>(shape.num_queries, next);
  AttentionMap map{.num_positions = next,
                   .bin_positions = (next + shape.max_bins - 1) / shape.max_bins,
                   .num_queries = num_queries,
                   .num_rows = std::min(shape.max_rows, num_queries),
                   .num_kv_heads = parts.model.num_kv_heads,
                   .heads = {}};
  SlotGather gather(parts.model, parts.cache, parts.tap, parts.comm);
  Mapper mapper(parts, map);
  std::vector<std::vector<AttentionMap::Head>> mine;
  // Keys of one layer a rank at a time.
  const std::int64_t at_once = gather.num_ranks();
  for (std::int64_t first = 0; first < parts.model.num_layers; first += at_once) {
    const std::int64_t last = std::min(first + at_once, parts.model.num_layers);
    const SchedulerNeeds needs{.query_rows = num_queries, .keys = true};
    for (SlotGather::Layer& layer : gather.run(sequence, next, needs, first, last)) {
      ensure(static_cast<std::int64_t>(layer.query_positions.size()) == num_queries,
             "the tap keeps the queries that are mapped");
      mine.push_back(mapper.map(layer));
    }
  }
  std::vector<Message> sent = make_messages(parts.comm.size());
  std::vector<Message> received = make_messages(parts.comm.size());
  send(mine, sent[0]);
  parts.comm.all_to_all_v(sent, received, "attention maps");
  if (parts.comm.rank() != 0) return map;
  std::vector<MessageFields> messages(received.begin(), received.end());
  for (std::int64_t layer = 0; layer < parts.model.num_layers; ++layer) {
    for (std::int64_t h = 0; h < map.num_kv_heads; ++h) {
      map.heads.push_back(receive(messages[static_cast<std::size_t>(gather.rank_of(layer))],
                                  static_cast<std::size_t>(map.num_rows * map.num_bins())));
    }
  }
  return map;
}

}  // namespace pikv
