// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows that go through an encoder when their page is sealed: once, whatever happens to the page.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "compression/compose.hpp"
#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "tests/kernels/packed_reference.hpp"
#include "tests/support/random_encoder.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

using testing_support::encoded;
using testing_support::Random;

constexpr std::size_t kDim = 40;
constexpr std::int32_t kRank = 16;
constexpr std::int64_t kHeads = 2;
constexpr std::int64_t kRow = kHeads * static_cast<std::int64_t>(kDim);
constexpr std::int64_t kLayers = 2;
constexpr std::int64_t kShards = 2;
constexpr std::int32_t kPageSlots = 16;
constexpr SequenceId kSequence{7};
const CachedModel kModel{
    .num_layers = kLayers, .num_kv_heads = kHeads, .head_dim = kDim, .fingerprint = "abc"};

using Numbers = std::vector<double>;

/// x matrix, [D] and one [D, D] of `matrices`.
Numbers product(const Numbers& x, const std::vector<float>& matrices, std::size_t head) {
  Numbers y(kDim, 0.0);
  for (std::size_t i = 0; i < kDim; ++i) {
    for (std::size_t j = 0; j < kDim; ++j) {
      y[j] += x[i] * static_cast<double>(matrices[(head * kDim + i) * kDim + j]);
    }
  }
  return y;
}

/// A row of the model in cached coordinates, and the row that such coordinates stand for.
Numbers enter(const Basis::Operand& basis, std::size_t head, Numbers row) {
  for (std::size_t d = 0; d < kDim; ++d) row[d] -= static_cast<double>(basis.mean[head * kDim + d]);
  return product(row, basis.in, head);
}
Numbers leave(const Basis::Operand& basis, std::size_t head, const Numbers& row) {
  Numbers x = product(row, basis.out, head);
  for (std::size_t d = 0; d < kDim; ++d) x[d] += static_cast<double>(basis.mean[head * kDim + d]);
  return x;
}

double distance(const Numbers& a, std::span<const float> b) {
  double most = 0;
  for (std::size_t d = 0; d < a.size(); ++d) {
    most = std::max(most, std::abs(a[d] - static_cast<double>(b[d])));
  }
  return most;
}

class EncodedCache : public testing::Test {
 protected:
  [[nodiscard]] std::string file() const { return (folder_.path() / "basis").string(); }

  void make(const std::string& spec, bool key_bounds = false) {
    file_.write(file());
    codec_ = compression::make_codec(spec);
    basis_ = codec_->make_basis(kModel);
    encoder_ = codec_->make_encoder(kModel);
    cache_ = std::make_unique<KvCache>(exec_,
                                       KvCacheConfig{.num_kv_heads = kHeads,
                                                     .head_dim = kDim,
                                                     .page_slots = kPageSlots,
                                                     .key_bounds = key_bounds,
                                                     .basis = basis_.get(),
                                                     .encoder = encoder_.get()},
                                       map_, 0, *codec_);
    cache_->add_sequence(kSequence);
    rows_.clear();
    next_.clear();
  }

  /// A key and a value as they were appended, and as they decode when they were encoded once.
  struct Row {
    Numbers key, value;
    Numbers key_once, value_once;
  };
  [[nodiscard]] Row row_of(std::size_t head, const Numbers& key, const Numbers& value) const {
    const auto once = [&](const Basis::Operand& basis, const Encoder::Nets& nets,
                          const Numbers& row) {
      return leave(basis, head, encoded(nets[head], enter(basis, head, row)));
    };
    return {key, value, once(file_.keys, file_.encoder->keys, key),
            once(file_.values, file_.encoder->values, value)};
  }

  /// The next positions of all layers, in turn to all shards.
  void append(std::int64_t count, SequenceId sequence = kSequence) {
    const auto n = static_cast<std::size_t>(count);
    std::vector<Position> positions(n);
    std::iota(positions.begin(), positions.end(), next_[sequence]);
    const std::vector<SequenceId> sequences(n, sequence);
    std::vector<ShardId> shards;
    for (const Position p : positions) shards.push_back(id_from<ShardId>(p % kShards));
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      const std::vector<float> keys = source_->normals(count * kRow);
      const std::vector<float> values = source_->normals(count * kRow);
      ASSERT_EQ(cache_->append({.layer = id_from<LayerId>(layer),
                                .sequences = sequences,
                                .positions = positions,
                                .shards = shards,
                                .keys = {keys.data(), {count, kHeads, kModel.head_dim}},
                                .values = {values.data(), {count, kHeads, kModel.head_dim}}}),
                AppendResult::kAppended);
      for (std::size_t i = 0; i < n * kHeads; ++i) {
        const auto row = [&](const std::vector<float>& of) {
          const auto first = of.begin() + static_cast<std::ptrdiff_t>(i * kDim);
          return Numbers(first, first + kDim);
        };
        const std::size_t head = static_cast<std::size_t>(layer) * kHeads + i % kHeads;
        rows_[{sequence, head, positions[i / kHeads]}] = row_of(head, row(keys), row(values));
      }
    }
    next_[sequence] += static_cast<Position>(count);
  }

  void fork(SequenceId to) {
    ASSERT_EQ(cache_->fork_sequence(kSequence, to), AppendResult::kAppended);
    const auto before = rows_;
    for (const auto& [at, row] : before) {
      const auto& [sequence, head, position] = at;
      if (sequence == kSequence) rows_[{to, head, position}] = row;
    }
    next_[to] = next_[kSequence];
  }

  template <class F>  // F(stream, number of slots)
  void for_each_stream(const F& f) {
    for (const StreamId& id : cache_->stream_ids()) f(id, cache_->positions(id).size());
  }

  void keep_some(std::int64_t percent) {
    for_each_stream([&](const StreamId& id, std::size_t count) {
      std::vector<std::int32_t> keep;
      for (std::size_t i = 0; i < count; ++i) {
        if (source_->integer(1, 100) <= percent) keep.push_back(static_cast<std::int32_t>(i));
      }
      cache_->keep_slots(id, keep);
    });
  }

  /// Every slot in a full page is its row encoded once; others are so, or still as they came.
  void expect_encoded_once(double tolerance) {
    cache_->check_integrity();
    for_each_stream([&](const StreamId& id, std::size_t count) {
      const std::size_t head = index(id.layer) * kHeads + index(id.kv_head);
      const std::vector<Position> positions = cache_->positions(id);
      KvCache::HeadContents slots;
      cache_->read_slots(id.sequence, id.layer, id.kv_head, true, true, slots);
      const std::size_t num_sealed = count_sealed(id);
      for (std::size_t i = 0; i < count; ++i) {
        const auto found = std::ranges::find(slots.positions, positions[i]);
        ASSERT_NE(found, slots.positions.end());
        const auto at = static_cast<std::size_t>(found - slots.positions.begin()) * kDim;
        const Row& row = rows_.at({id.sequence, head, positions[i]});
        const auto expect = [&](const Numbers& given, const Numbers& once,
                                std::span<const float> read) {
          const double from_once = distance(once, read);
          ASSERT_LT(i < num_sealed ? from_once : std::min(from_once, distance(given, read)),
                    tolerance)
              << "position " << positions[i] << " of head " << head << ", place " << i << " of "
              << num_sealed << " in full pages";
        };
        const std::span keys = std::span<const float>(slots.keys).subspan(at, kDim);
        const std::span values = std::span<const float>(slots.values).subspan(at, kDim);
        expect(row.key, row.key_once, keys);
        expect(row.value, row.value_once, values);
      }
    });
  }

  /// Slots in full pages of a stream.
  [[nodiscard]] std::size_t count_sealed(const StreamId& id) const {
    std::set<ShardId> shards;  // views have those that hold a slot in any head
    for (const StreamId& other : cache_->stream_ids(id.sequence)) {
      if (other.layer == id.layer) shards.insert(other.shard);
    }
    std::vector<kernels::StreamView> views;
    (void)cache_->collect_streams(id.layer, id.sequence, views);
    const auto shard = std::distance(shards.begin(), shards.find(id.shard));
    const kernels::StreamView& view =
        views.at(index(id.kv_head) * shards.size() + static_cast<std::size_t>(shard));
    std::ptrdiff_t count = 0;
    for (std::int32_t page = 0; page < view.num_sealed_pages; ++page) {
      const std::int32_t* first = positions_in(layout_of(view, page), view.sealed_pages[page]);
      count +=
          std::count_if(first, first + kPageSlots, [](Position p) { return p != kNoPosition; });
    }
    return static_cast<std::size_t>(count);
  }
  [[nodiscard]] const PageLayout& layout_of(const kernels::StreamView& view,
                                            std::int32_t page) const {
    return cache_->sealed_layouts().data[view.sealed_forms[page]];
  }

  Random random_{721};
  Random* source_ = &random_;  // of rows and of what is kept
  compression::BasisFile file_ =
      testing_support::random_encoder_file(random_, kModel, kRank, /*width=*/9);
  testing_support::TempFolder folder_;
  Exec exec_ = Exec::cpu(2);
  ShardMap map_{kLayers, kShards, 1, std::vector<std::int32_t>(kLayers* kShards, 0)};
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<const Basis> basis_;
  std::unique_ptr<const Encoder> encoder_;
  std::unique_ptr<KvCache> cache_;
  std::map<std::tuple<SequenceId, std::size_t, Position>, Row> rows_;  // by head of all layers
  std::map<SequenceId, Position> next_;
};

TEST_F(EncodedCache, FullPagesHoldTheLatentsAndBoundsOfThese) {
  make(concat("distilled:file=", file(), ",dtype=f32"), /*key_bounds=*/true);
  append(kShards * (2 * kPageSlots + 1));
  std::size_t num_pages = 0;
  for (std::size_t head = 0; head < kLayers * kHeads; ++head) {
    const auto layer = id_from<LayerId>(head / kHeads);
    std::vector<kernels::StreamView> views;
    const auto per_head =
        static_cast<std::size_t>(cache_->collect_streams(layer, kSequence, views));
    for (std::size_t shard = 0; shard < per_head; ++shard) {
      const kernels::StreamView& view = views[head % kHeads * per_head + shard];
      for (std::int32_t p = 0; p < view.num_sealed_pages; ++p, ++num_pages) {
        const PageLayout& layout = layout_of(view, p);
        const reference::PageReader page(layout, view.sealed_pages[p]);
        const auto* lowest =
            reinterpret_cast<const float*>(view.sealed_pages[p] + layout.bounds_offset());
        std::vector<float> low(kRank, INFINITY);
        for (std::int32_t slot = 0; slot < kPageSlots; ++slot) {
          const Row& row = rows_.at({kSequence, head, page.position(slot)});
          const Numbers z = encoded(file_.encoder->keys[head], enter(file_.keys, head, row.key));
          const Numbers w =
              encoded(file_.encoder->values[head], enter(file_.values, head, row.value));
          for (std::int32_t c = 0; c < kRank; ++c) {
            const auto channel = static_cast<std::size_t>(c);
            ASSERT_NEAR(static_cast<double>(page.key(slot, c).value), z[channel], 1e-4);
            ASSERT_NEAR(static_cast<double>(page.value(slot, c).value), w[channel], 1e-4);
            low[channel] = std::min(low[channel], page.key(slot, c).value);
          }
        }
        ASSERT_TRUE(std::equal(low.begin(), low.end(), lowest));
      }
    }
  }
  EXPECT_EQ(num_pages, kLayers * kHeads * kShards * 2u);
  expect_encoded_once(1e-3);
}

TEST_F(EncodedCache, NoRowIsEncodedTwice) {
  for (const auto& [rest, tolerance] :
       std::vector<std::pair<std::string, double>>{{",dtype=f32", 1e-3},
                                                   {"", 0.3},
                                                   {"+int8:axis=token", 0.8},
                                                   {"+pyramid:full=0.5,int8=0.5", 0.8}}) {
    SCOPED_TRACE(rest);
    make(concat("distilled:file=", file(), rest));
    const auto check = [&, tolerance = tolerance] {
      ASSERT_NO_FATAL_FAILURE(expect_encoded_once(tolerance));
    };
    append(kShards * kPageSlots - 1);
    check();
    append(2);
    check();
    append(200);
    check();
    for (const std::int64_t percent : {90, 50, 70, 30}) {
      keep_some(percent);  // holes first, then pages written anew
      check();
      append(75);
      check();
    }
    fork(SequenceId{8});
    check();
    append(50, SequenceId{8});
    keep_some(60);
    check();
    if (cache_->has_tiers()) {
      for (int round = 0; round < 3; ++round) {
        for_each_stream([&](const StreamId& id, std::size_t count) {
          cache_->tier_slots(id, random_.normals(static_cast<std::int64_t>(count)));
        });
        check();
        append(40);
        append(40, SequenceId{8});
        check();
      }
    }
    cache_->remove_sequence(kSequence);
    append(20, SequenceId{8});
    check();
  }
}

TEST_F(EncodedCache, EditsThatChangeNothingLeaveLatentsAlone) {
  make(concat("distilled:file=", file(), ",dtype=f32"));
  append(75);
  const std::vector<float> zeros(kDim, 0.0f);
  const std::vector<float> frequencies(kDim / 2, 0.5f);
  for (int round = 0; round < 3; ++round) {
    for_each_stream([&](const StreamId& id, std::size_t count) {
      std::vector<KvCache::ValueUpdate> updates;
      for (std::size_t i = 0; i < count; ++i) {
        updates.push_back(
            {.slot = static_cast<std::int32_t>(i), .scale = 1, .addend = zeros.data()});
      }
      cache_->update_values(id, updates);
      std::vector<KvCache::Turn> turns;
      for (const Position p : cache_->positions(id)) turns.push_back({p, p});
      cache_->turn_slots(id, turns, frequencies);
    });
    expect_encoded_once(1e-3);
    append(20);  // keys that were copied in the open page are sealed, and turned from the copies
    expect_encoded_once(1e-3);
  }
}

TEST_F(EncodedCache, WithoutWeightsOutPagesAreThoseOfLora) {
  for (auto* operand : {&file_.keys, &file_.values}) operand->mean.clear();
  for (auto* nets : {&file_.encoder->keys, &file_.encoder->values}) {
    for (Encoder::Net& net : *nets) std::ranges::fill(net.out, 0.0f);
  }
  for (const char* form : {"", "+int8:axis=token", "+int4:axis=token"}) {
    SCOPED_TRACE(form);
    std::vector<std::vector<std::byte>> pages[2];
    for (const bool encodes : {true, false}) {
      Random same(722);
      source_ = &same;
      make(encodes ? concat("distilled:file=", file(), form)
                   : concat("lora:file=", file(), ",rank=", kRank, form));
      EXPECT_EQ(encoder_ != nullptr, encodes);
      append(150);
      keep_some(70);
      append(50);
      std::vector<kernels::StreamView> views;
      for (std::int64_t layer = 0; layer < kLayers; ++layer) {
        (void)cache_->collect_streams(id_from<LayerId>(layer), kSequence, views);
      }
      for (const kernels::StreamView& view : views) {
        for (std::int32_t p = 0; p < view.num_sealed_pages; ++p) {
          const std::byte* page = view.sealed_pages[p];
          pages[encodes ? 1 : 0].emplace_back(page, page + layout_of(view, p).page_bytes());
        }
      }
    }
    EXPECT_GT(pages[0].size(), 20u);
    EXPECT_TRUE(pages[0] == pages[1]);
  }
}

}  // namespace
}  // namespace pikv
