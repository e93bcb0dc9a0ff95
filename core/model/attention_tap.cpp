// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/attention_tap.hpp"

#include <algorithm>

#include "kernels/common/device_buffer.hpp"
#include "kernels/linear.hpp"

namespace pikv {

AttentionTap::AttentionTap(Exec& exec, const Shape& shape, const SchedulerNeeds& needs)
    : exec_(exec), shape_(shape), needs_(needs) {}

AttentionTap::LayerRecord& AttentionTap::record(SequenceId sequence, LayerId layer) {
  auto& layers = sequences_[sequence];
  layers.resize(static_cast<std::size_t>(shape_.num_layers));
  return layers[index(layer)];
}

const AttentionTap::LayerRecord* AttentionTap::find(SequenceId sequence, LayerId layer) const {
  const auto found = sequences_.find(sequence);
  return found == sequences_.end() ? nullptr : &found->second[index(layer)];
}

View<const float, 3> AttentionTap::on_host(View<const float, 3> rows) {
  if (exec_.device() == Device::kCpu) return rows;
  on_host_.resize(static_cast<std::size_t>(rows.size()));
  copy_bytes(exec_, on_host_.data(), Device::kCpu, rows.data, exec_.device(),
             on_host_.size() * sizeof(float));
  return {on_host_.data(), rows.extents};
}

void AttentionTap::record_rows(LayerId layer, const StepRows& rows, View<const float, 3> given) {
  const View<const float, 3> q = on_host(given);
  const auto width = static_cast<std::size_t>(needs_.query_rows);
  const auto row_size = static_cast<std::size_t>(shape_.num_heads * shape_.head_dim);
  for (std::size_t r = 0; r < rows.positions.size(); ++r) {
    const auto watched = watched_.find(rows.sequences[r]);
    if (watched == watched_.end() && width == 0) continue;
    const std::size_t place = watched != watched_.end()
                                  ? static_cast<std::size_t>(rows.positions[r] - watched->second)
                                  : static_cast<std::size_t>(rows.positions[r]) % width;
    LayerRecord& to = record(rows.sequences[r], layer);
    if (place >= to.positions.size()) {
      to.positions.resize(place + 1, -1);
      to.queries.resize((place + 1) * row_size);
    }
    to.positions[place] = rows.positions[r];
    std::copy_n(q.row(static_cast<std::int64_t>(r)), row_size,
                to.queries.begin() + static_cast<std::ptrdiff_t>(place * row_size));
  }
}

void AttentionTap::record_moments(LayerId layer, const StepRows& rows, View<const float, 3> given) {
  const View<const float, 3> q = on_host(given);
  const auto num_rows = rows.positions.size();
  for (std::size_t begin = 0; begin < num_rows;) {
    const SequenceId sequence = rows.sequences[begin];
    std::size_t end = begin;
    while (end < num_rows && rows.sequences[end] == sequence) ++end;
    while (begin < end && rows.positions[begin] < kFirstMomentPosition) ++begin;
    if (begin < end) {
      add_moments(q.row(static_cast<std::int64_t>(begin)), static_cast<std::int64_t>(end - begin),
                  record(sequence, layer).sums);
    }
    begin = end;
  }
}

void AttentionTap::add_moments(const float* q, std::int64_t num_rows, std::vector<double>& sums) {
  const std::int64_t heads = shape_.num_heads;
  const std::int64_t dim = shape_.head_dim;
  sums.resize(static_cast<std::size_t>(1 + heads * dim * (1 + dim)));
  transposed_.resize(static_cast<std::size_t>(dim * num_rows));
  products_.resize(static_cast<std::size_t>(dim * dim));
  sums[0] += static_cast<double>(num_rows);
  double* mean = sums.data() + 1;
  double* products = mean + heads * dim;
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t i = 0; i < dim; ++i) {
      double total = 0;
      for (std::int64_t t = 0; t < num_rows; ++t) {
        const float x = q[(t * heads + h) * dim + i];
        transposed_[static_cast<std::size_t>(i * num_rows + t)] = x;
        total += static_cast<double>(x);
      }
      mean[h * dim + i] += total;
    }
    kernels::linear(exec_.host(), {.x = {transposed_.data(), {dim, num_rows}},
                                   .weight = {transposed_.data(), DType::kF32, dim, num_rows},
                                   .y = {products_.data(), {dim, dim}}});
    for (std::int64_t i = 0; i < dim * dim; ++i) {
      products[h * dim * dim + i] += static_cast<double>(products_[static_cast<std::size_t>(i)]);
    }
  }
}

void AttentionTap::read_rows(SequenceId sequence, LayerId layer, Position first, Rows& to) const {
  to.positions.clear();
  to.queries.clear();
  const LayerRecord* from = find(sequence, layer);
  if (from == nullptr) return;
  const auto row_size = static_cast<std::ptrdiff_t>(shape_.num_heads * shape_.head_dim);
  to.queries.reserve(from->queries.size());
  for (std::size_t i = 0; i < from->positions.size(); ++i) {
    if (from->positions[i] < 0 || from->positions[i] < first) continue;
    to.positions.push_back(from->positions[i]);
    const auto begin = from->queries.begin() + static_cast<std::ptrdiff_t>(i) * row_size;
    to.queries.insert(to.queries.end(), begin, begin + row_size);
  }
}

std::optional<AttentionTap::RowsView> AttentionTap::rows_in_order(SequenceId sequence,
                                                                  LayerId layer,
                                                                  Position first) const {
  const LayerRecord* from = find(sequence, layer);
  if (from == nullptr) return RowsView{};
  const std::span<const Position> all = from->positions;
  const auto begin = std::ranges::find_if(all, [&](Position p) { return p >= first; });
  const auto skipped = static_cast<std::size_t>(begin - all.begin());
  const std::span<const Position> positions = all.subspan(skipped);
  if (!std::ranges::is_sorted(positions)) return std::nullopt;  // -1 is below all positions
  const auto row_size = static_cast<std::size_t>(shape_.num_heads * shape_.head_dim);
  return RowsView{.positions = positions,
                  .queries = std::span(from->queries).subspan(skipped * row_size)};
}

std::vector<double> AttentionTap::moment_sums(SequenceId sequence, LayerId layer) const {
  const LayerRecord* from = find(sequence, layer);
  std::vector<double> sums = from != nullptr ? from->sums : std::vector<double>{};
  sums.resize(
      static_cast<std::size_t>(1 + shape_.num_heads * shape_.head_dim * (1 + shape_.head_dim)));
  return sums;
}

void AttentionTap::record_keys(LayerId layer, const StepRows& rows, View<const float, 3> given) {
  const View<const float, 3> k = on_host(given);
  const auto heads = static_cast<std::size_t>(shape_.num_kv_heads);
  const auto dim = static_cast<std::size_t>(shape_.head_dim);
  for (std::size_t r = 0; r < rows.positions.size(); ++r) {
    std::vector<double>& sums = record(rows.sequences[r], layer).key_sums;
    sums.resize(1 + heads * dim + heads);
    sums[0] += 1;
    const float* row = k.row(static_cast<std::int64_t>(r));
    for (std::size_t h = 0; h < heads; ++h) {
      double squares = 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const auto x = static_cast<double>(row[h * dim + d]);
        sums[1 + h * dim + d] += x;
        squares += x * x;
      }
      sums[1 + heads * dim + h] += squares;
    }
  }
}

std::vector<double> AttentionTap::key_sums(SequenceId sequence, LayerId layer) const {
  const LayerRecord* from = find(sequence, layer);
  std::vector<double> sums = from != nullptr ? from->key_sums : std::vector<double>{};
  sums.resize(static_cast<std::size_t>(1 + shape_.num_kv_heads * (shape_.head_dim + 1)));
  return sums;
}

void AttentionTap::watch(SequenceId sequence, Position first) { watched_[sequence] = first; }

void AttentionTap::fork(SequenceId from, SequenceId to) {
  const auto found = sequences_.find(from);
  if (found == sequences_.end()) return;
  std::vector<LayerRecord> copy = found->second;
  sequences_[to] = std::move(copy);
}

void AttentionTap::forget(SequenceId sequence) {
  sequences_.erase(sequence);
  watched_.erase(sequence);
}

}  // namespace pikv
