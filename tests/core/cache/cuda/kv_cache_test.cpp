// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A cache on a GPU and one on the CPU live through the same: what is read of them is the same, bit
// for bit where neither a turn nor a basis rounds.
#include "core/cache/kv_cache.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "compression/tables.hpp"
#include "core/comm/communicator.hpp"
#include "core/engine/fit_sequence.hpp"
#include "tests/support/label.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kLayers = 3;
constexpr std::int64_t kHeads = 2;
constexpr std::int64_t kShards = 2;
constexpr std::int64_t kDim = 64;
constexpr SequenceId kSequence{5};
constexpr std::array kWanted = {std::pair{false, false}, std::pair{true, true},
                                std::pair{true, false}, std::pair{false, true}};

std::vector<float> frequencies() {
  std::vector<float> result;
  for (std::int64_t i = 0; i < kDim / 2; ++i) {
    result.push_back(std::pow(10'000.0f, -2.0f * static_cast<float>(i) / kDim));
  }
  return result;
}

class KvCacheCuda : public testing::TestWithParam<std::string> {
 protected:
  struct Side {
    Exec exec;
    std::unique_ptr<KvCache> cache{};
  };

  void SetUp() override {
    if (describe_cuda_devices().empty()) GTEST_SKIP() << "no GPU";
    const std::string& name = GetParam();
    codec_ = make_policy("codec", compression::codecs(), name.substr(0, name.find('_')));
    const KvCacheConfig config{
        .num_kv_heads = kHeads,
        .head_dim = kDim,
        .page_slots = name.ends_with("_pages_of_64") ? 64 : 16,
        .columns = AttentionColumns(AttentionColumn::kSum, AttentionColumn::kNumUses),
        .key_bounds = name.ends_with("_bounds")};
    sides_[0].emplace(Side{.exec = Exec::cpu(2)});
    sides_[1].emplace(Side{.exec = Exec::cuda(0, 3)});
    for (std::optional<Side>& side : sides_) {
      side->cache = std::make_unique<KvCache>(side->exec, config, map_, 0, *codec_);
      side->cache->add_sequence(kSequence);
    }
  }

  template <class F>
  void on_both(const F& f) {
    for (std::optional<Side>& side : sides_) f(side->exec, *side->cache);
    expect_equal();
  }

  void append(std::int64_t count) {
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      const auto keys = random_.normals(count * kHeads * kDim);
      const auto values = random_.normals(count * kHeads * kDim);
      std::vector<Position> positions;
      std::vector<ShardId> shards;
      for (std::int64_t i = 0; i < count; ++i) {
        positions.push_back(next_ + static_cast<Position>(i));
        shards.push_back(id_from<ShardId>(random_.integer(0, kShards - 1)));
      }
      const std::vector<SequenceId> sequences(static_cast<std::size_t>(count), kSequence);
      for (std::optional<Side>& side : sides_) {
        const auto there = [&](const std::vector<float>& rows) {
          DeviceBuffer<float> buffer(side->exec.device(), rows.size());
          copy_bytes(side->exec, buffer.data(), side->exec.device(), rows.data(), Device::kCpu,
                     rows.size() * sizeof(float));
          return buffer;
        };
        const DeviceBuffer<float> keys_there = there(keys), values_there = there(values);
        ASSERT_EQ(side->cache->append({.layer = id_from<LayerId>(layer),
                                       .sequences = sequences,
                                       .positions = positions,
                                       .shards = shards,
                                       .keys = {keys_there.data(), {count, kHeads, kDim}},
                                       .values = {values_there.data(), {count, kHeads, kDim}}}),
                  AppendResult::kAppended);
        side->exec.synchronize();
      }
    }
    next_ += static_cast<Position>(count);
    expect_equal();
  }

  /// Open pages get columns, as attention would give them, the same on both sides.
  void use_slots() {
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      std::vector<kernels::StreamView> views[2];
      for (std::size_t s = 0; s < 2; ++s) {
        (void)sides_[s]->cache->collect_streams(id_from<LayerId>(layer), kSequence, views[s]);
      }
      const PageLayout& open = sides_[0]->cache->open_layout();
      const auto num_columns = static_cast<std::int64_t>(open.columns.count()) * open.num_slots;
      for (std::size_t v = 0; v < views[0].size(); ++v) {
        if (views[0][v].open_page == nullptr) continue;
        const auto columns = random_.normals(num_columns);
        for (std::size_t s = 0; s < 2; ++s) {
          Exec& exec = sides_[s]->exec;
          copy_bytes(exec, const_cast<std::byte*>(views[s][v].open_page) + open.columns_offset(),
                     exec.device(), columns.data(), Device::kCpu, columns.size() * sizeof(float));
          exec.synchronize();
        }
      }
    }
    expect_equal();
  }

  /// Of each stream about so many slots of 8 go.
  void evict(std::int64_t eighths, bool at_once) {
    std::vector<StreamId> ids;
    std::vector<std::vector<std::int32_t>> subscripts;
    for (const StreamId& id : sides_[0]->cache->stream_ids()) {
      ids.push_back(id);
      std::vector<std::int32_t>& of_stream = subscripts.emplace_back();
      const auto count = static_cast<std::int32_t>(sides_[0]->cache->positions(id).size());
      for (std::int32_t i = 0; i < count; ++i) {
        if (random_.integer(0, 7) < eighths) of_stream.push_back(i);
      }
    }
    on_both([&](Exec&, KvCache& cache) {
      std::vector<KvCache::Slots> slots;
      for (std::size_t i = 0; i < ids.size(); ++i) slots.push_back({ids[i], subscripts[i]});
      if (at_once) return cache.evict_slots(slots);
      for (const auto& [id, of_stream] : slots) cache.evict_slots(id, of_stream);
    });
  }

  void merge_values() {
    std::vector<StreamId> ids = sides_[0]->cache->stream_ids();
    std::vector<std::vector<std::int32_t>> subscripts(ids.size());
    std::vector<std::vector<float>> addends(ids.size());
    std::vector<std::vector<KvCache::ValueUpdate>> updates(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto count = static_cast<std::int32_t>(sides_[0]->cache->positions(ids[i]).size());
      for (std::int32_t slot = 0; slot < count; ++slot) {
        if (random_.integer(0, 4) == 0) subscripts[i].push_back(slot);
      }
      addends[i] = random_.normals(std::ssize(subscripts[i]) * kDim);
      for (std::size_t j = 0; j < subscripts[i].size(); ++j) {
        // Powers of two: one rounding on either device.
        updates[i].push_back({.slot = subscripts[i][j],
                              .scale = j % 2 == 0 ? 1.0f : 0.5f,
                              .addend = addends[i].data() + j * kDim});
      }
    }
    std::vector<std::vector<float>> read[2];
    for (std::size_t s = 0; s < 2; ++s) {
      std::vector<KvCache::Slots> slots;
      std::vector<float*> values;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        slots.push_back({ids[i], subscripts[i]});
        values.push_back(
            read[s].emplace_back(testing_support::poisoned(std::ssize(addends[i]))).data());
      }
      sides_[s]->cache->read_values(slots, values);
    }
    for (std::size_t i = 0; i < ids.size(); ++i) expect_rows(read[1][i], read[0][i]);
    on_both([&](Exec&, KvCache& cache) {
      std::vector<KvCache::ValueUpdates> all;
      for (std::size_t i = 0; i < ids.size(); ++i) all.push_back({ids[i], updates[i]});
      cache.update_values(all);
    });
  }

  void turn() {
    const std::vector<float> inverse_frequencies = frequencies();
    for (const StreamId& id : sides_[0]->cache->stream_ids()) {
      std::vector<KvCache::Turn> turns;
      for (const Position position : sides_[0]->cache->positions(id)) {
        if (random_.integer(0, 3) == 0) turns.push_back({position, position + 100'000});
      }
      for (std::optional<Side>& side : sides_) {
        side->cache->turn_slots(id, turns, inverse_frequencies);
      }
    }
    next_ += 100'000;
    exact_ = false;  // sines of both devices differ in the last bit of a double
    expect_equal();
  }

  void expect_equal() {
    for (std::optional<Side>& side : sides_) ASSERT_NO_THROW(side->cache->check_integrity());
    for (const auto& [with_keys, with_values] : kWanted) {
      std::vector<KvCache::HeadContents> contents[2];
      for (std::size_t s = 0; s < 2; ++s) {
        contents[s].resize(kLayers * kHeads);
        std::vector<KvCache::HeadContents*> to;
        for (KvCache::HeadContents& head : contents[s]) to.push_back(&head);
        sides_[s]->cache->read_slots(kSequence, 0, kLayers, with_keys, with_values, to);
      }
      for (std::size_t h = 0; h < contents[0].size(); ++h) {
        const KvCache::HeadContents& expected = contents[0][h];
        const KvCache::HeadContents& actual = contents[1][h];
        ASSERT_EQ(actual.positions, expected.positions);
        ASSERT_EQ(actual.columns, expected.columns);
        ASSERT_EQ(actual.evicted_columns, expected.evicted_columns);
        expect_rows(actual.keys, expected.keys);
        expect_rows(actual.values, expected.values);
      }
    }
    const CacheStats stats[2] = {sides_[0]->cache->stats(), sides_[1]->cache->stats()};
    ASSERT_EQ(stats[1].num_slots, stats[0].num_slots);
    ASSERT_EQ(stats[1].page_bytes, stats[0].page_bytes);
    ASSERT_EQ(stats[1].num_evicted_slots, stats[0].num_evicted_slots);
  }

  void expect_rows(const std::vector<float>& actual, const std::vector<float>& expected) const {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(actual[i], expected[i], exact_ ? 0.0f : step_) << "element " << i;
    }
  }

  Random random_{771};
  ShardMap map_{kLayers, kShards, 1, std::vector<std::int32_t>(kLayers* kShards)};
  std::unique_ptr<const Codec> codec_;
  std::optional<Side> sides_[2];
  Position next_ = 0;
  bool exact_ = true;
  // A number that a turn rounds otherwise may get the next code.
  float step_ = GetParam().starts_with("int4") ? 0.7f : 0.05f;
};

TEST_P(KvCacheCuda, EvictionLeavesTheSameAsOnTheCpu) {
  append(1);
  append(180);
  use_slots();
  evict(1, true);
  append(33);
  use_slots();
  evict(4, true);
  evict(1, false);
  append(97);
  for (int step = 0; step < 20; ++step) {  // as a scheduler does that evicts in every step
    append(1);
    evict(step % 7 == 0 ? 1 : 0, true);
  }
  evict(8, true);
  append(20);
}

TEST_P(KvCacheCuda, ValuesMergeAndKeysTurnAsOnTheCpu) {
  append(150);
  use_slots();
  merge_values();
  evict(3, true);
  merge_values();
  append(40);
  turn();
  evict(2, true);
  append(5);
  turn();
}

TEST_P(KvCacheCuda, TiersAreFilledAsOnTheCpu) {
  if (!sides_[0]->cache->has_tiers()) GTEST_SKIP() << "the codec has none";
  append(200);
  for (int round = 0; round < 3; ++round) {
    for (const StreamId& id : sides_[0]->cache->stream_ids()) {
      const auto worths =
          random_.normals(static_cast<std::int64_t>(sides_[0]->cache->positions(id).size()));
      for (std::optional<Side>& side : sides_) side->cache->tier_slots(id, worths);
    }
    expect_equal();
    evict(2, true);
    append(70);
  }
}

TEST_P(KvCacheCuda, LongStreamsAreReadAndRewrittenInPieces) {
  if (GetParam() != "none" && GetParam() != "int8") GTEST_SKIP() << "two codecs are enough";
  append(45'000);  // 138 MB of rows, where 64 MiB go at once
  evict(1, true);
}

TEST_P(KvCacheCuda, ASequenceGetsTheSameBasis) {
  if (!codec_->fits_sequences()) GTEST_SKIP() << "the codec finds none";
  append(100);
  evict(1, true);
  ModelConfig model;
  model.num_layers = kLayers;
  model.num_kv_heads = kHeads;
  model.head_dim = kDim;
  const auto comm = make_single_communicator();
  for (std::optional<Side>& side : sides_) fit_on_all_ranks(*side->cache, *comm, model, kSequence);
  exact_ = false;  // sums of the way in are taken in other orders
  expect_equal();
  append(70);
  evict(2, true);
  merge_values();
  turn();
}

INSTANTIATE_TEST_SUITE_P(Codecs, KvCacheCuda,
                         testing::Values("none", "none_bounds", "none:dtype=f16", "int8",
                                         "int8_bounds", "int8_pages_of_64", "int4",
                                         "pyramid:full=0.5,int8=0.5", "svd:dtype=f32,rank=32"),
                         testing_support::LabelOfParam());

}  // namespace
}  // namespace pikv
