// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/codecs/codec_error.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "core/cache/before_rope.hpp"
#include "kernels/attention.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"
#include "kernels/kv_page.hpp"

namespace pikv::launch {
namespace {

/// Where keys are kept as they were before RoPE.
struct KeysBeforeRope {
  std::vector<float> basis{};  // [D, D]
  View<const float, 1> inverse_frequencies{};
};

/// Pages of one stream, end to end.
class Pages {
 public:
  /// forms[i]: which layout page i has.
  Pages(std::vector<PageLayout> layouts, std::vector<std::uint8_t> forms)
      : layouts_(std::move(layouts)), forms_(std::move(forms)), memory_(Device::kCpu) {
    std::size_t bytes = 0;
    for (const std::uint8_t form : forms_) bytes += layouts_[form].page_bytes();
    memory_.resize_discard(bytes);
    std::byte* page = memory_.data();
    for (const std::uint8_t form : forms_) {
      pages_.push_back(page);
      page += layouts_[form].page_bytes();
    }
  }
  Pages(const PageLayout& layout, std::int64_t count)
      : Pages(std::vector{layout}, std::vector<std::uint8_t>(static_cast<std::size_t>(count))) {}

  [[nodiscard]] View<const PageLayout, 1> layouts() const {
    return {layouts_.data(), {static_cast<std::int64_t>(layouts_.size())}};
  }
  [[nodiscard]] std::size_t bytes() const { return memory_.size(); }
  [[nodiscard]] std::byte* page(std::int64_t i) const {
    return pages_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] View<std::byte* const, 1> view() const {
    return {pages_.data(), {static_cast<std::int64_t>(pages_.size())}};
  }
  [[nodiscard]] kernels::StreamView stream() const {
    return {.sealed_pages = pages_.data(),
            .sealed_forms = forms_.data(),
            .num_sealed_pages = static_cast<std::int32_t>(pages_.size())};
  }

  void convert_to(Exec& exec, const KeysBeforeRope& before_rope, const Pages& to) const {
    const float* key_basis = before_rope.basis.data();
    for (std::size_t i = 0; i < pages_.size(); ++i) {
      const std::byte* from = pages_[i];
      kernels::convert_pages(exec, {.from_layout = layouts_[forms_[i]],
                                    .to_layout = to.layouts_[to.forms_[i]],
                                    .from = {&from, {1}},
                                    .to = {&to.pages_[i], {1}},
                                    .key_bases = {&key_basis, {1}},
                                    .inverse_frequencies = before_rope.inverse_frequencies});
    }
  }

 private:
  std::vector<PageLayout> layouts_;
  std::vector<std::uint8_t> forms_;
  DeviceBuffer<std::byte> memory_;
  std::vector<std::byte*> pages_;
};

/// |a - b| / |b|, and 0 for 0 / 0.
class RelativeError {
 public:
  void add(float a, float b) {
    const double difference = static_cast<double>(a) - static_cast<double>(b);
    error_ += difference * difference;
    size_ += static_cast<double>(b) * static_cast<double>(b);
  }
  [[nodiscard]] double value() const { return error_ > 0 ? std::sqrt(error_ / size_) : 0.0; }

 private:
  double error_ = 0;
  double size_ = 0;
};

/// Rows [n, D] of one head in other coordinates.
std::vector<float> mapped(Exec& exec, const Basis::Map& map, std::vector<float> rows) {
  if (map.empty()) return rows;
  const std::int64_t dim = map.maps.extent(1);
  const View<float, 3> view{rows.data(), {static_cast<std::int64_t>(rows.size()) / dim, 1, dim}};
  map_heads(exec, map, view, view);
  return rows;
}

/// Into the coordinates of one head and back; all empty: they are the model's.
struct HeadMaps {
  Basis::Map keys, values, queries;
  Basis::Map back_to_keys, back_to_values;
};

HeadMaps maps_of(const Basis& basis, LayerId layer, HeadId kv_head) {
  return {.keys = basis.of_keys(layer).of_head(kv_head),
          .values = basis.of_values(layer).of_head(kv_head),
          .queries = basis.of_queries(layer).of_head(kv_head),
          .back_to_keys = basis.back_to_keys(layer).of_head(kv_head),
          .back_to_values = basis.back_to_values(layer).of_head(kv_head)};
}

/// How a cache keeps the full pages of the head, and in which coordinates.
struct Kept {
  std::vector<std::uint8_t> forms;
  HeadMaps maps{};
  std::optional<Basis> own{};  // that the maps are of, where the codec is fitted
  KeysBeforeRope before_rope{};
};

/// As they were before RoPE.
std::vector<float> turned_back(Exec& exec, const HeadSample& head,
                               View<const float, 1> frequencies) {
  std::vector<float> keys = head.keys;
  require(2 * frequencies.extent(0) == head.head_dim, "codecs", frequencies.extent(0),
          " frequencies of RoPE for head_dim = ", head.head_dim);
  std::vector<Position> positions(keys.size() / static_cast<std::size_t>(head.head_dim));
  std::iota(positions.begin(), positions.end(), 0);
  turn_back_keys(exec, positions, frequencies, keys);
  return keys;
}

Kept kept_by(Exec& exec, const CodecUnderTest& tested, const PageLayout& open,
             std::size_t num_pages, const HeadSample& head) {
  Kept kept{.forms = tested.codec.forms_of_pages(head.layer, head.kv_head, num_pages)};
  if (tested.basis != nullptr) kept.maps = maps_of(*tested.basis, head.layer, head.kv_head);
  if (!tested.codec.fits_sequences()) return kept;
  // As if the sequence had this head alone.
  RowMoments keys(head.head_dim);
  RowMoments values(head.head_dim);
  const bool before_rope = tested.codec.fits_keys_before_rope();
  const std::span<const float> frequencies = tested.inverse_frequencies;
  kept.before_rope.inverse_frequencies = {frequencies.data(),
                                          {static_cast<std::int64_t>(frequencies.size())}};
  keys.add(before_rope ? turned_back(exec, head, kept.before_rope.inverse_frequencies) : head.keys);
  values.add(head.values);
  FittedHead fitted = tested.codec.fit(open, keys, values);
  if (before_rope) kept.before_rope.basis = std::exchange(fitted.keys, {});
  const CachedModel model{.num_layers = 1, .num_kv_heads = 1, .head_dim = head.head_dim};
  kept.own.emplace(model, Basis::Operand{.in = std::move(fitted.keys), .out = {}, .mean = {}},
                   Basis::Operand{.in = std::move(fitted.values), .out = {}, .mean = {}});
  const HeadMaps own = maps_of(*kept.own, LayerId{0}, HeadId{0});
  if (!own.keys.empty()) {
    kept.maps.keys = own.keys;
    kept.maps.queries = own.queries;
    kept.maps.back_to_keys = own.back_to_keys;
  }
  if (!own.values.empty()) {
    kept.maps.values = own.values;
    kept.maps.back_to_values = own.back_to_values;
  }
  kept.forms.assign(num_pages, fitted.form);
  return kept;
}

/// The head as a cache has it; the outputs of attention go back by back_to_values.
HeadSample in_basis(Exec& exec, const HeadSample& head, const HeadMaps& maps) {
  HeadSample result = head;
  result.keys = mapped(exec, maps.keys, head.keys);
  result.values = mapped(exec, maps.values, head.values);
  result.queries = mapped(exec, maps.queries, head.queries);
  return result;
}

std::vector<float> attend(Exec& exec, const Pages& pages, const PageLayout& open,
                          const HeadSample& head, const KeysBeforeRope& before_rope = {}) {
  const auto num_rows = static_cast<std::int64_t>(head.positions.size());
  std::vector<float> o(head.queries.size());
  std::vector<float> lse(static_cast<std::size_t>(num_rows * head.group));
  // Each row by itself, as in decode.
  std::vector<kernels::AttentionSegment> segments;
  for (std::int32_t r = 0; r < num_rows; ++r) {
    segments.push_back({.row_begin = r, .row_end = r + 1, .first_stream = 0, .num_streams = 1});
  }
  kernels::StreamView stream = pages.stream();
  stream.key_basis = before_rope.basis.data();
  kernels::attention(
      exec, {.q = {head.queries.data(), {num_rows, head.group, head.head_dim}},
             .positions = {head.positions.data(), {num_rows}},
             .segments = {segments.data(), {num_rows}},
             .streams = {&stream, {1}},
             .num_kv_heads = 1,
             .sealed_layouts = pages.layouts(),
             .open_layout = open,
             .inverse_frequencies = before_rope.inverse_frequencies,
             .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head.head_dim))),
             .window = {},
             .o = {o.data(), {num_rows, head.group, head.head_dim}},
             .lse = {lse.data(), {num_rows, head.group}}});
  return o;
}

/// What each slot gets of the attention of the queries.
std::vector<double> attention_to_slots(const HeadSample& head) {
  const auto dim = static_cast<std::size_t>(head.head_dim);
  const auto group = static_cast<std::size_t>(head.group);
  std::vector<double> received(head.keys.size() / dim);
  for (std::size_t row = 0; row < head.positions.size() * group; ++row) {
    const float* q = head.queries.data() + row * dim;
    const auto end = static_cast<std::size_t>(head.positions[row / group]) + 1;
    std::vector<double> weights;
    for (std::size_t slot = 0; slot < std::min(end, received.size()); ++slot) {
      const float* key = head.keys.data() + slot * dim;
      const double dot = std::inner_product(q, q + dim, key, 0.0);
      weights.push_back(dot / std::sqrt(static_cast<double>(dim)));
    }
    const double largest = std::ranges::max(weights);
    for (double& weight : weights) weight = std::exp(weight - largest);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::size_t slot = 0; slot < weights.size(); ++slot) {
      received[slot] += weights[slot] / total;
    }
  }
  return received;
}

/// The same head with every second query, from the given one on.
HeadSample with_every_second_query(const HeadSample& head, std::size_t first) {
  HeadSample result = head;
  result.queries.clear();
  result.positions.clear();
  const auto row = static_cast<std::ptrdiff_t>(head.group * head.head_dim);
  for (std::size_t i = first; i < head.positions.size(); i += 2) {
    const auto begin = head.queries.begin() + static_cast<std::ptrdiff_t>(i) * row;
    result.queries.insert(result.queries.end(), begin, begin + row);
    result.positions.push_back(head.positions[i]);
  }
  return result;
}

}  // namespace

CodecError measure_codec(Exec& exec, const CodecUnderTest& tested, std::int32_t page_slots,
                         const HeadSample& sample) {
  const bool has_tiers = !tested.codec.tiers().empty();
  const HeadSample head = has_tiers ? with_every_second_query(sample, 0) : sample;
  const auto dim = static_cast<std::int32_t>(head.head_dim);
  const auto num_slots = static_cast<std::int64_t>(head.keys.size()) / head.head_dim;
  const std::int64_t num_pages = num_slots / page_slots;
  require(num_pages > 0, "codecs", num_slots, " tokens do not fill a page of ", page_slots);
  const PageLayout open = make_page_layout(page_slots, dim, DType::kF32);
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_pages * page_slots));  // of slots
  std::iota(order.begin(), order.end(), 0);
  if (has_tiers) {
    const std::vector<double> received = attention_to_slots(with_every_second_query(sample, 1));
    std::ranges::stable_sort(order, std::greater<>{}, [&](std::int64_t slot) {
      return received[static_cast<std::size_t>(slot)];
    });
  }
  const auto paged = [&](const HeadSample& rows) {
    Pages pages(open, num_pages);
    kernels::clear_pages(exec, {.layout = open, .pages = pages.view()});
    std::vector<kernels::KvWrite> writes;
    for (std::int64_t i = 0; i < num_pages * page_slots; ++i) {
      const std::int64_t slot = order[static_cast<std::size_t>(i)];
      writes.push_back({.key = rows.keys.data() + slot * dim,
                        .value = rows.values.data() + slot * dim,
                        .page = pages.page(i / page_slots),
                        .slot = static_cast<std::int32_t>(i % page_slots),
                        .position = static_cast<std::int32_t>(slot)});
    }
    kernels::write_slots(
        exec,
        {.layout = open, .writes = {writes.data(), {static_cast<std::int64_t>(writes.size())}}});
    return pages;
  };
  const Kept kept = kept_by(exec, tested, open, static_cast<std::size_t>(num_pages), head);
  const HeadSample cached = in_basis(exec, head, kept.maps);
  HeadSample encoded = cached;
  if (tested.encoder != nullptr) {
    tested.encoder->encode_keys(head.layer, head.kv_head, encoded.keys);
    tested.encoder->encode_values(head.layer, head.kv_head, encoded.values);
  }
  const Pages sealed(tested.codec.sealed_layouts(open), kept.forms);
  paged(encoded).convert_to(exec, kept.before_rope, sealed);
  const Pages decoded(open, num_pages);
  sealed.convert_to(exec, kept.before_rope, decoded);

  std::vector<float> keys(order.size() * static_cast<std::size_t>(dim));
  std::vector<float> values(keys.size());
  for (std::int64_t i = 0; i < num_pages * page_slots; ++i) {
    const std::byte* page = decoded.page(i / page_slots);
    const auto* key = reinterpret_cast<const float*>(page) + i % page_slots;
    const auto* value = reinterpret_cast<const float*>(page + open.value_offset()) +
                        i % page_slots * open.value_stride();
    const std::ptrdiff_t row = order[static_cast<std::size_t>(i)] * dim;
    for (std::ptrdiff_t d = 0; d < dim; ++d) {
      keys[static_cast<std::size_t>(row + d)] = key[d * page_slots];
    }
    std::copy_n(value, dim, values.begin() + row);
  }
  keys = mapped(exec, kept.maps.back_to_keys, std::move(keys));
  values = mapped(exec, kept.maps.back_to_values, std::move(values));
  const std::vector<float> found =
      mapped(exec, kept.maps.back_to_values, attend(exec, sealed, open, cached, kept.before_rope));
  const auto error_of = [](const std::vector<float>& is, const std::vector<float>& was) {
    RelativeError error;
    for (std::size_t i = 0; i < is.size(); ++i) error.add(is[i], was[i]);
    return error.value();
  };
  return {.num_slots = num_pages * page_slots,
          .page_bytes = sealed.bytes(),
          .key = error_of(keys, head.keys),
          .value = error_of(values, head.values),
          .output = error_of(found, attend(exec, paged(head), open, head))};
}

}  // namespace pikv::launch
