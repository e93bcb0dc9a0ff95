// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/core/cache/cache_model.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "compression/tables.hpp"
#include "core/engine/fit_sequence.hpp"
#include "kernels/common/dispatch.hpp"
#include "tests/core/cache/whole_before_rope.hpp"
#include "tests/kernels/packed_reference.hpp"
#include "tests/support/pre_rope.hpp"
#include "tests/support/random_basis.hpp"

namespace pikv::testing_support {
namespace {

ShardMap odd_shards_elsewhere(const CacheShape& shape) {
  std::vector<std::int32_t> owners;
  for (std::int64_t i = 0; i < shape.num_layers * shape.num_shards; ++i) {
    owners.push_back(static_cast<std::int32_t>(i % shape.num_shards % shape.num_ranks));
  }
  return {shape.num_layers, shape.num_shards, shape.num_ranks, owners};
}

std::unique_ptr<const Codec> codec_of(const std::string& spec) {
  if (spec == kWholeBeforeRope) return std::make_unique<WholeBeforeRope>();
  return make_policy("codec", compression::codecs(), spec);
}

}  // namespace

std::shared_ptr<const Basis> basis_for(Random& random, const CacheShape& shape) {
  return random_basis(random, {.num_layers = shape.num_layers,
                               .num_kv_heads = shape.num_kv_heads,
                               .head_dim = shape.head_dim});
}

CacheModel::CacheModel(Random& random, const CacheShape& shape)
    : random_(random),
      shape_(shape),
      map_(odd_shards_elsewhere(shape)),
      codec_(codec_of(shape.codec)),
      basis_(shape.has_basis && shape.basis == nullptr ? basis_for(random, shape) : shape.basis),
      cache_(std::make_unique<KvCache>(
          exec_,
          KvCacheConfig{.num_kv_heads = shape.num_kv_heads,
                        .head_dim = shape.head_dim,
                        .page_slots = shape.page_slots,
                        .key_bounds = shape.key_bounds,
                        .basis = basis_.get(),
                        .inverse_frequencies = shape.head_dim % 2 == 0
                                                   ? some_frequencies(shape.head_dim)
                                                   : std::vector<float>{},
                        .budget_bytes = shape.budget_bytes},
          map_, 0, *codec_)) {}

ShardId CacheModel::random_shard() {
  const auto local = map_.shards_of(LayerId{0}, 0);
  return local[static_cast<std::size_t>(
      random_.integer(0, static_cast<std::int64_t>(local.size()) - 1))];
}

void CacheModel::add_sequence(SequenceId sequence) {
  cache_->add_sequence(sequence);
  sequences_[sequence] = true;
  expect_equal();
}

void CacheModel::remove_sequence(SequenceId sequence) {
  cache_->remove_sequence(sequence);
  sequences_.erase(sequence);
  std::erase_if(streams_, [&](const auto& item) { return std::get<0>(item.first) == sequence; });
  expect_equal();
}

AppendResult CacheModel::fork_sequence(SequenceId from, SequenceId to) {
  const AppendResult result = cache_->fork_sequence(from, to);
  if (result == AppendResult::kAppended) {
    sequences_[to] = true;
    const std::map<Key, std::vector<Slot>> before = streams_;
    for (const auto& [key, slots] : before) {
      const auto& [sequence, layer, shard, head] = key;
      if (sequence == from) streams_[{to, layer, shard, head}] = slots;
    }
  }
  expect_equal();
  return result;
}

void CacheModel::fit(SequenceId sequence) {
  ModelConfig model;
  model.num_layers = shape_.num_layers;
  model.num_kv_heads = shape_.num_kv_heads;
  model.head_dim = shape_.head_dim;
  const auto comm = make_single_communicator();
  fit_on_all_ranks(*cache_, *comm, model, sequence);
  expect_equal();
}

AppendResult CacheModel::append(LayerId layer, const std::vector<Row>& rows) {
  std::vector<SequenceId> sequences;
  std::vector<Position> positions;
  std::vector<ShardId> shards;
  for (const Row& row : rows) {
    sequences.push_back(row.sequence);
    positions.push_back(row.position);
    shards.push_back(row.shard);
  }
  const std::array extents{static_cast<std::int64_t>(rows.size()), shape_.num_kv_heads,
                           shape_.head_dim};
  const auto keys = random_.normals(extents[0] * extents[1] * extents[2]);
  const auto values = random_.normals(extents[0] * extents[1] * extents[2]);
  const KvCache::Entries entries{.layer = layer,
                                 .sequences = sequences,
                                 .positions = positions,
                                 .shards = shards,
                                 .keys = {keys.data(), extents},
                                 .values = {values.data(), extents}};
  const bool picks = cache_->can_prepare(sequences) && random_.integer(0, 1) == 1;
  const AppendResult result = picks ? append_in_halves(entries) : cache_->append(entries);
  if (result == AppendResult::kAppended) {
    auto key = keys.begin();
    auto value = values.begin();
    for (const Row& row : rows) {
      for (std::int64_t head = 0; head < shape_.num_kv_heads; ++head) {
        std::vector<Slot>& slots =
            streams_[{row.sequence, layer, row.shard, id_from<HeadId>(head)}];
        slots.push_back({.position = row.position,
                         .key = {key, key + shape_.head_dim},
                         .value = {value, value + shape_.head_dim}});
        key += shape_.head_dim;
        value += shape_.head_dim;
      }
    }
  }
  expect_equal();
  return result;
}

/// The rows lie in the opposite order, among others, and are there when they are written.
AppendResult CacheModel::append_in_halves(const KvCache::Entries& given) {
  const std::int64_t count = given.keys.extent(0);
  const std::int64_t row_size = shape_.num_kv_heads * shape_.head_dim;
  const std::array extents{count + 3, shape_.num_kv_heads, shape_.head_dim};
  std::vector<float> keys = poisoned(extents[0] * row_size);
  std::vector<float> values = keys;
  std::vector<std::int32_t> picked;
  for (std::int64_t i = 0; i < count; ++i) {
    picked.push_back(static_cast<std::int32_t>(count + 1 - i));
  }
  KvCache::Entries entries = given;
  entries.keys = {keys.data(), extents};
  entries.values = {values.data(), extents};
  entries.rows = picked;
  if (count == 0) entries.keys.extents[0] = entries.values.extents[0] = 0;
  const AppendResult result = cache_->prepare(entries);
  if (result == AppendResult::kPoolFull) return result;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::ptrdiff_t to = picked[static_cast<std::size_t>(i)] * row_size;
    std::copy_n(given.keys.row(i), row_size, keys.begin() + to);
    std::copy_n(given.values.row(i), row_size, values.begin() + to);
  }
  cache_->write_prepared();
  return result;
}

void CacheModel::keep(const StreamId& id, const std::vector<std::int32_t>& keep) {
  const std::vector<Position> positions = cache_->positions(id);
  std::set<Position> kept;
  for (const std::int32_t i : keep) kept.insert(positions[static_cast<std::size_t>(i)]);
  cache_->keep_slots(id, keep);
  std::vector<Slot>& slots = streams_.at({id.sequence, id.layer, id.shard, id.kv_head});
  num_evicted_ += static_cast<std::int64_t>(
      std::erase_if(slots, [&](const Slot& slot) { return !kept.contains(slot.position); }));
  if (slots.empty()) streams_.erase({id.sequence, id.layer, id.shard, id.kv_head});
  expect_equal();
}

void CacheModel::update_values(const StreamId& id, const std::vector<std::int32_t>& subscripts,
                               float scale) {
  const auto dim = static_cast<std::size_t>(shape_.head_dim);
  const std::vector<Position> positions = cache_->positions(id);
  std::vector<Slot>& slots = streams_.at({id.sequence, id.layer, id.shard, id.kv_head});
  std::vector<float> values = {7.0f};  // it adds to what is there
  cache_->read_values(id, subscripts, values);
  ASSERT_EQ(values.size(), 1 + subscripts.size() * dim);
  const std::vector<float> addends =
      random_.normals(static_cast<std::int64_t>(subscripts.size() * dim));
  std::vector<KvCache::ValueUpdate> updates;
  for (std::size_t i = 0; i < subscripts.size(); ++i) {
    const float* addend = addends.data() + i * dim;
    updates.push_back({.slot = subscripts[i], .scale = scale, .addend = addend});
    const Position position = positions[static_cast<std::size_t>(subscripts[i])];
    const auto slot = std::ranges::find(slots, position, &Slot::position);
    ASSERT_NE(slot, slots.end());
    const std::vector<float> value(values.begin() + static_cast<std::ptrdiff_t>(1 + i * dim),
                                   values.begin() + static_cast<std::ptrdiff_t>(1 + (i + 1) * dim));
    ASSERT_TRUE(is_held(value, slot->value)) << "position " << position;
    for (std::size_t d = 0; d < dim; ++d) slot->value[d] = scale * value[d] + addend[d];
  }
  cache_->update_values(id, updates);
  expect_equal();
}

std::vector<float> CacheModel::put_in_tiers(const StreamId& id) {
  std::vector<float> worths =
      random_.normals(static_cast<std::int64_t>(cache_->positions(id).size()));
  cache_->tier_slots(id, worths);
  expect_equal();
  return worths;
}

/// Whether a sealed page makes `read` of these numbers. Packed ones depend on their neighbours, and
/// change a little each time that they are packed again.
bool CacheModel::is_sealed(const PageLayout& layout, const std::vector<float>& read,
                           const std::vector<float>& written) const {
  constexpr float kPackedTolerance = 0.3f;  // of normal numbers in 8 bits, packed a few times
  if (layout.packed() || has_tiers() || (turns_rows() && layout.keys.element != Element::kF32)) {
    return std::ranges::equal(read, written,
                              [&](float a, float b) { return std::abs(a - b) < kPackedTolerance; });
  }
  if (turns_rows()) return is_open(read, written);
  return dispatch_dtype(layout.dtype(), [&]<class T>() {
    return std::ranges::equal(read, written,
                              [](float a, float b) { return a == to_float(from_float<T>(b)); });
  });
}

/// Whether an open page does: a basis rounds a little.
bool CacheModel::is_open(const std::vector<float>& read, const std::vector<float>& written) const {
  const float tolerance = turns_rows() ? 1e-4f : 0.0f;
  return std::ranges::equal(read, written,
                            [&](float a, float b) { return std::abs(a - b) <= tolerance; });
}

/// From the coordinates of pages to the model's, by the definition.
void CacheModel::leave_basis(const Basis* basis, LayerId layer, HeadId kv_head,
                             std::vector<Slot>& slots) const {
  if (basis == nullptr) return;
  const auto head = static_cast<std::int64_t>(index(kv_head));
  const auto back = [&](const Basis::Map& map, std::vector<float>& row) {
    if (map.empty()) return;
    const std::vector<float> from = row;
    for (std::size_t c = 0; c < row.size(); ++c) {
      double sum = map.after.extent(0) > 0 ? static_cast<double>(map.after.row(head)[c]) : 0.0;
      for (std::size_t d = 0; d < row.size(); ++d) {
        const std::size_t entry = map.transposed ? c * row.size() + d : d * row.size() + c;
        sum += static_cast<double>(from[d]) * static_cast<double>(map.maps.row(head)[entry]);
      }
      row[c] = static_cast<float>(sum);
    }
  };
  for (Slot& slot : slots) {
    back(basis->back_to_keys(layer), slot.key);
    back(basis->back_to_values(layer), slot.value);
  }
}

void CacheModel::read_page(const PageLayout& layout, const std::byte* page, const float* key_basis,
                           std::vector<Slot>& slots) const {
  const reference::PageReader reader(layout, page);
  for (std::int32_t slot = 0; slot < layout.num_slots; ++slot) {
    Slot read{.position = reader.position(slot), .key = {}, .value = {}};
    if (read.position == kNoPosition) continue;
    for (std::int32_t d = 0; d < layout.head_dim; ++d) {
      read.key.push_back(reader.key(slot, d).value);
      read.value.push_back(reader.value(slot, d).value);
    }
    if (layout.keys.pre_rope) {
      read.key = key_of_latents(read.key, {key_basis, read.key.size() * read.key.size()},
                                read.position, some_frequencies(layout.head_dim));
    }
    slots.push_back(std::move(read));
  }
}

/// The bounds of a page are those of the slots that it holds now.
void CacheModel::expect_bounds(const PageLayout& layout, const std::byte* page,
                               const float* key_basis) const {
  std::vector<Slot> slots;
  read_page(layout, page, key_basis, slots);
  const auto* lowest = reinterpret_cast<const float*>(page + layout.bounds_offset());
  const float* highest = lowest + layout.value_stride();
  for (std::size_t d = 0; d < static_cast<std::size_t>(layout.value_stride()); ++d) {
    float low = 0;
    float high = 0;
    if (!slots.empty() && d < static_cast<std::size_t>(layout.head_dim)) {
      const auto channel = [&](const Slot& slot) { return slot.key[d]; };
      low = channel(*std::ranges::min_element(slots, {}, channel));
      high = channel(*std::ranges::max_element(slots, {}, channel));
    }
    // One rounding or two in the sum of low and scaled code.
    const float tolerance = layout.packed() || layout.keys.pre_rope ? 1e-5f : 0.0f;
    ASSERT_NEAR(lowest[d], low, tolerance) << "channel " << d;
    ASSERT_NEAR(highest[d], high, tolerance) << "channel " << d;
  }
}

/// Whether any page does.
bool CacheModel::is_held(const std::vector<float>& read, const std::vector<float>& written) const {
  const View<const PageLayout, 1> all = cache_->sealed_layouts();
  return is_open(read, written) ||
         std::any_of(all.data, all.data + all.size(),
                     [&](const PageLayout& layout) { return is_sealed(layout, read, written); });
}

/// Slots of a stream hold what was appended, rounded once their page was sealed.
void CacheModel::expect_slots(const Basis* basis, LayerId layer, HeadId kv_head,
                              const kernels::StreamView& view,
                              const std::vector<Slot>& expected) const {
  std::vector<Slot> sealed;
  std::vector<const PageLayout*> layouts;  // of their pages
  for (std::int32_t i = 0; i < view.num_sealed_pages; ++i) {
    const PageLayout& layout = layout_of(view, i);
    read_page(layout, view.sealed_pages[i], view.key_basis, sealed);
    layouts.resize(sealed.size(), &layout);
    if (shape_.key_bounds) expect_bounds(layout, view.sealed_pages[i], view.key_basis);
  }
  const std::size_t num_places =
      static_cast<std::size_t>(view.num_sealed_pages) * static_cast<std::size_t>(shape_.page_slots);
  ASSERT_EQ(view.last_sealed == kNoPosition, sealed.size() < num_places);
  for (const Slot& slot : sealed) ASSERT_LE(slot.position, view.last_sealed);
  std::vector<Slot> open;
  if (view.open_page != nullptr) {
    read_page(cache_->open_layout(), view.open_page, nullptr, open);
    if (shape_.key_bounds) expect_bounds(cache_->open_layout(), view.open_page, nullptr);
  }
  ASSERT_EQ(sealed.size() + open.size(), expected.size());
  leave_basis(basis, layer, kv_head, sealed);
  leave_basis(basis, layer, kv_head, open);
  for (const auto* slots : {&sealed, &open}) {
    for (std::size_t i = 0; i < slots->size(); ++i) {
      const Slot& slot = (*slots)[i];
      const auto found = std::ranges::find(expected, slot.position, &Slot::position);
      ASSERT_NE(found, expected.end()) << "position " << slot.position;
      // A slot of an open page may have been sealed before, and its value have changed since.
      const bool may_be_open = slots == &open;
      const auto holds = [&](const std::vector<float>& read, const std::vector<float>& written) {
        return may_be_open ? is_held(read, written) : is_sealed(*layouts[i], read, written);
      };
      ASSERT_TRUE(holds(slot.key, found->key));
      ASSERT_TRUE(holds(slot.value, found->value));
    }
  }
}

/// A stream takes less than a page more than its slots need.
void CacheModel::expect_pages(const kernels::StreamView& view, std::size_t num_slots) const {
  const auto page_slots = static_cast<std::size_t>(shape_.page_slots);
  const std::size_t num_pages =
      static_cast<std::size_t>(view.num_sealed_pages) + (view.open_page != nullptr ? 1 : 0);
  ASSERT_GE(num_pages * page_slots, num_slots);
  ASSERT_LE(num_pages, (num_slots + 2 * page_slots - 2) / page_slots);
}

const PageLayout& CacheModel::layout_of(const kernels::StreamView& view, std::int32_t page) const {
  return cache_->sealed_layouts().data[view.form_of(page)];
}

std::size_t CacheModel::bytes_of(const kernels::StreamView& view) const {
  std::size_t bytes = view.open_page != nullptr ? cache_->open_layout().page_bytes() : 0;
  for (std::int32_t i = 0; i < view.num_sealed_pages; ++i) bytes += layout_of(view, i).page_bytes();
  return bytes;
}

void CacheModel::expect_equal() const {
  ASSERT_NO_THROW(cache_->check_integrity());
  Account account;
  expect_equal_contents(account);
  expect_equal_account(account);
}

void CacheModel::expect_equal_contents(Account& account) const {
  for (const auto& [sequence, there] : sequences_) {
    for (std::int64_t l = 0; l < shape_.num_layers; ++l) {
      const auto layer = id_from<LayerId>(l);
      std::set<ShardId> used;
      for (const auto& [key, slots] : streams_) {
        if (std::get<0>(key) == sequence && std::get<1>(key) == layer)
          used.insert(std::get<2>(key));
      }
      std::vector<kernels::StreamView> views(3);  // it adds to what is there
      const std::int32_t count = cache_->collect_streams(layer, sequence, views);
      ASSERT_EQ(static_cast<std::size_t>(count), used.size());
      ASSERT_EQ(views.size(), 3 + used.size() * static_cast<std::size_t>(shape_.num_kv_heads));
      auto view = views.begin() + 3;
      for (std::int64_t head = 0; head < shape_.num_kv_heads; ++head) {
        for (const ShardId shard : used) {
          const auto found = streams_.find({sequence, layer, shard, id_from<HeadId>(head)});
          const std::vector<Slot> expected =
              found == streams_.end() ? std::vector<Slot>{} : found->second;
          expect_slots(cache_->basis_of(sequence), layer, id_from<HeadId>(head), *view, expected);
          expect_pages(*view, expected.size());
          ShardUsage& usage = account.usage[{layer, shard}];
          usage.num_slots += static_cast<std::int64_t>(expected.size());
          usage.page_bytes += bytes_of(*view);
          account.num_pages += view->num_sealed_pages + (view->open_page != nullptr ? 1 : 0);
          ++view;
        }
      }
    }
  }
  const std::vector<StreamId> ids = cache_->stream_ids();
  ASSERT_EQ(ids.size(), streams_.size());
  for (const StreamId& id : ids) {
    const auto found = streams_.find({id.sequence, id.layer, id.shard, id.kv_head});
    ASSERT_NE(found, streams_.end());
    std::vector<Position> expected;
    for (const Slot& slot : found->second) expected.push_back(slot.position);
    std::vector<Position> positions = cache_->positions(id);
    std::ranges::sort(positions);
    ASSERT_EQ(positions, expected);
  }
}

void CacheModel::expect_equal_account(const Account& account) const {
  const CacheStats stats = cache_->stats();
  std::size_t bytes = 0;
  std::int64_t num_slots = 0;
  for (const auto& [shard, usage] : account.usage) {
    bytes += usage.page_bytes;
    num_slots += usage.num_slots;
  }
  ASSERT_EQ(stats.page_bytes, bytes);
  ASSERT_EQ(cache_->page_bytes(), bytes);
  ASSERT_EQ(stats.num_slots, num_slots);
  ASSERT_EQ(stats.num_pages, account.num_pages);
  ASSERT_EQ(stats.num_evicted_slots, num_evicted_);
  ASSERT_EQ(stats.num_sequences, static_cast<std::int64_t>(sequences_.size()));
  ASSERT_EQ(stats.bf16_bytes, static_cast<std::size_t>(num_slots * shape_.head_dim) * 4);
  ASSERT_GE(stats.peak_page_bytes, bytes);
  ASSERT_GE(stats.reserved_bytes, stats.page_bytes);
  if (shape_.budget_bytes) {
    ASSERT_LE(stats.reserved_bytes, *shape_.budget_bytes);
  }
  for (std::int64_t l = 0; l < shape_.num_layers; ++l) {
    const auto layer = id_from<LayerId>(l);
    const std::vector<ShardUsage> usage = cache_->shard_usage(layer);
    ASSERT_EQ(usage.size(), map_.shards_of(layer, 0).size());
    for (const ShardUsage& row : usage) {
      const auto found = account.usage.find({layer, row.shard});
      const ShardUsage expected = found == account.usage.end() ? ShardUsage{} : found->second;
      ASSERT_EQ(row.num_slots, expected.num_slots);
      ASSERT_EQ(row.page_bytes, expected.page_bytes);
    }
  }
}

}  // namespace pikv::testing_support
