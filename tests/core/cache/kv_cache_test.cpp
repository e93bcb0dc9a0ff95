// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/kv_cache.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/common/error.hpp"
#include "tests/core/cache/cache_model.hpp"
#include "tests/support/label.hpp"

namespace pikv {
namespace {

using testing_support::CacheModel;
using testing_support::CacheShape;
using testing_support::Random;
using Row = CacheModel::Row;

constexpr SequenceId kSequence{7};
constexpr LayerId kLayer{1};
constexpr ShardId kShard{2};

std::vector<Row> rows(std::int32_t count, Position first = 0, ShardId shard = kShard) {
  std::vector<Row> result;
  for (std::int32_t i = 0; i < count; ++i) result.push_back({kSequence, first + i, shard});
  return result;
}

std::size_t open_page_bytes(const CacheShape& shape) {
  return make_page_layout(shape.page_slots, static_cast<std::int32_t>(shape.head_dim), DType::kF32)
      .page_bytes();
}

#ifdef __SANITIZE_ADDRESS__  // some ten times slower; the release build does the rest
constexpr int kLifeSteps = 100;
constexpr std::size_t kBudgetStepKib = 144;
#else
constexpr int kLifeSteps = 200;
constexpr std::size_t kBudgetStepKib = 72;
#endif

/// The codec, with "_bounds" where pages know the bounds of their keys, and "_basis" where they are
/// in other coordinates.
class KvCacheCodecs : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static CacheShape shape() {
    const std::string codec = GetParam().substr(0, GetParam().find('_'));
    return {.codec = codec,
            .head_dim = codec == testing_support::kWholeBeforeRope ? 6 : 5,
            .key_bounds = GetParam().ends_with("_bounds"),
            .has_basis = GetParam().ends_with("_basis")};
  }
};

TEST_P(KvCacheCodecs, HoldsWhatWasAppendedAtEveryLength) {
  Random random(111);
  CacheModel model(random, shape());
  model.add_sequence(kSequence);
  EXPECT_EQ(model.append(kLayer, {}), AppendResult::kAppended);
  for (Position position = 0; position < 50; ++position) {
    EXPECT_EQ(model.append(kLayer, rows(1, position)), AppendResult::kAppended);
  }
  EXPECT_EQ(model.append(kLayer, rows(97, 50)), AppendResult::kAppended) << "several pages at once";
}

TEST_P(KvCacheCodecs, WhatIsPreparedAndNotWrittenGoesWithItsSequence) {
  Random random(110);
  const CacheShape shape = KvCacheCodecs::shape();
  CacheModel model(random, shape);
  KvCache& cache = model.cache();
  model.add_sequence(kSequence);
  ASSERT_EQ(model.append(kLayer, rows(13)), AppendResult::kAppended);
  const std::vector<SequenceId> sequences(40, kSequence);
  if (!cache.can_prepare(sequences)) GTEST_SKIP() << "rows of a basis are appended at once";
  std::vector<Position> positions(sequences.size());
  std::iota(positions.begin(), positions.end(), 13);
  const std::vector<ShardId> shards(sequences.size(), kShard);
  const std::array extents{std::ssize(sequences), shape.num_kv_heads, shape.head_dim};
  const auto numbers = random.normals(extents[0] * extents[1] * extents[2]);
  KvCache::Entries entries{.layer = kLayer,
                           .sequences = sequences,
                           .positions = positions,
                           .shards = shards,
                           .keys = {numbers.data(), extents},
                           .values = {numbers.data(), extents}};
  ASSERT_EQ(cache.prepare(entries), AppendResult::kAppended);
  EXPECT_THROW((void)cache.prepare(entries), InvalidArgument) << "positions do not ascend";
  const std::vector<std::int32_t> outside(sequences.size(), 40);
  entries.rows = outside;
  EXPECT_THROW((void)cache.prepare(entries), InvalidArgument) << "no such row";
  cache.drop_prepared();
  model.remove_sequence(kSequence);
  EXPECT_EQ(cache.page_bytes(), 0u);
}

TEST_P(KvCacheCodecs, KeepsExactlyTheSlotsItIsToldTo) {
  Random random(112);
  for (const std::int32_t page_slots : {16, 32}) {
    for (const std::int32_t length : {1, 15, 16, 17, 31, 32, 33, 64, 65, 101}) {
      for (const std::int64_t percent : {0, 10, 50, 90, 100}) {
        SCOPED_TRACE(testing::Message() << length << " slots, " << percent << " % kept");
        CacheShape shape = KvCacheCodecs::shape();
        shape.page_slots = page_slots;
        CacheModel model(random, shape);
        model.add_sequence(kSequence);
        ASSERT_EQ(model.append(kLayer, rows(length)), AppendResult::kAppended);
        for (const StreamId& stream : model.cache().stream_ids()) {
          std::vector<std::int32_t> keep;
          for (std::int32_t i = 0; i < length; ++i) {
            if (random.integer(1, 100) <= percent) keep.push_back(i);
          }
          model.keep(stream, keep);
        }
        // What was evicted does not come back, and the stream goes on.
        ASSERT_EQ(model.append(kLayer, rows(page_slots + 1, length)), AppendResult::kAppended);
        model.remove_sequence(kSequence);
        EXPECT_EQ(model.cache().page_bytes(), 0u);
      }
    }
  }
}

TEST_P(KvCacheCodecs, RandomLifeOfManySequencesEqualsTheModel) {
  Random random(113);
  CacheModel model(random, shape());
  std::vector<Position> next(6, -1);  // by sequence; negative: not there
  for (int step = 0; step < kLifeSteps; ++step) {
    const auto s = static_cast<std::size_t>(random.integer(0, 5));
    const auto sequence = id_from<SequenceId>(s);
    if (next[s] < 0) {
      model.add_sequence(sequence);
      next[s] = 0;
    } else if (random.integer(0, 19) == 0) {
      model.remove_sequence(sequence);
      next[s] = -1;
    } else if (model.cache().codec().fits_sequences() && random.integer(0, 9) == 0) {
      model.fit(sequence);
    } else if (random.integer(0, 9) == 0) {
      const auto to = static_cast<std::size_t>(random.integer(0, 5));
      if (next[to] >= 0) continue;
      ASSERT_EQ(model.fork_sequence(sequence, id_from<SequenceId>(to)), AppendResult::kAppended);
      next[to] = next[s];
    } else if (random.integer(0, 2) == 0) {
      for (const StreamId& stream : model.cache().stream_ids()) {
        if (random.integer(0, 3) != 0) continue;
        if (model.cache().has_tiers()) (void)model.put_in_tiers(stream);
        std::vector<std::int32_t> some;
        const auto length = static_cast<std::int32_t>(model.cache().positions(stream).size());
        for (std::int32_t i = 0; i < length; ++i) {
          if (random.integer(0, 2) != 0) some.push_back(i);
        }
        // Powers of two, so that a value is rounded once on any machine.
        if (random.integer(0, 1) == 0) {
          model.update_values(stream, some, random.integer(0, 1) == 0 ? 1.0f : 0.5f);
        } else {
          model.keep(stream, some);
        }
      }
    } else {
      // The same positions in both layers, with gaps, spread over the shards of this rank.
      std::vector<Row> batch;
      const std::int64_t count = random.integer(1, 40);
      for (std::int64_t i = 0; i < count; ++i) {
        next[s] += static_cast<Position>(random.integer(1, 3));
        batch.push_back({sequence, next[s], model.random_shard()});
      }
      ASSERT_EQ(model.append(LayerId{0}, batch), AppendResult::kAppended);
      ASSERT_EQ(model.append(LayerId{1}, batch), AppendResult::kAppended);
    }
  }
}

TEST_P(KvCacheCodecs, AFullPoolTakesAllEntriesOrNone) {
  Random random(114);
  for (int round = 0; round < 30; ++round) {
    CacheShape shape = KvCacheCodecs::shape();
    shape.budget_bytes = static_cast<std::size_t>(random.integer(0, 40)) * 1024;
    shape.head_dim = random.integer(1, 40);
    CacheModel model(random, shape);
    model.add_sequence(kSequence);
    Position next = 0;
    for (int step = 0; step < 60; ++step) {
      const auto count = static_cast<std::int32_t>(random.integer(1, 50));
      std::vector<Row> batch;
      for (Row row : rows(count, next)) {
        row.shard = model.random_shard();
        batch.push_back(row);
      }
      // The model compares everything, also after a refusal.
      if (model.append(kLayer, batch) == AppendResult::kAppended) next += count;
    }
    model.remove_sequence(kSequence);
    EXPECT_EQ(model.cache().page_bytes(), 0u);
  }
}

// Open and sealed pages take whole slabs of the budget for themselves; a promise of room must hold
// whatever the order in which they do.
TEST_P(KvCacheCodecs, AppendNeverRunsOutInTheMiddleWhateverTheBudget) {
  Random random(115);
  CacheShape shape = KvCacheCodecs::shape();
  shape.page_slots = 64;
  shape.head_dim = 128;
  if (shape.has_basis) shape.basis = basis_for(random, shape);  // it takes longer than a cache
  for (const std::int32_t count : {70, 300, 701}) {
    for (std::size_t kib = 0; kib < 2500; kib += kBudgetStepKib) {
      shape.budget_bytes = kib * 1024;
      CacheModel model(random, shape);
      model.add_sequence(kSequence);
      std::vector<Row> batch = rows(count);
      for (Row& row : batch) row.shard = model.random_shard();
      ASSERT_NO_THROW((void)model.append(kLayer, batch)) << count << " rows, " << kib << " KiB";
    }
  }
}

TEST_P(KvCacheCodecs, ValuesChangeWhereTheyLieAndAreSealedChanged) {
  Random random(126);
  CacheModel model(random, shape());
  model.add_sequence(kSequence);
  for (const std::int32_t length : {1, 14, 1, 1, 14, 1, 1, 30}) {  // 15, 16, 17, ... in all
    const auto next = static_cast<Position>(
        model.cache().stream_ids().empty()
            ? 0
            : model.cache().positions({kSequence, kLayer, HeadId{0}, kShard}).size());
    ASSERT_EQ(model.append(kLayer, rows(length, next)), AppendResult::kAppended);
    for (const StreamId& stream : model.cache().stream_ids()) {
      std::vector<std::int32_t> all(model.cache().positions(stream).size());
      std::iota(all.begin(), all.end(), 0);
      model.update_values(stream, {}, 2.0f);
      model.update_values(stream, {all.front()}, 0.0f);
      model.update_values(stream, {all.back()}, 0.5f);
      model.update_values(stream, all, 1.0f);
    }
  }
  // Holes are not slots.
  for (const StreamId& stream : model.cache().stream_ids()) {
    std::vector<std::int32_t> keep;
    for (std::int32_t i = 0; i < 63; ++i) {
      if (i % 9 != 4) keep.push_back(i);
    }
    model.keep(stream, keep);
    model.update_values(stream, {0, 3, 4, 5, 20, 30, 55}, 0.5f);
  }
}

TEST_P(KvCacheCodecs, UpdatesOfSlotsThatAreNotThereAreRefused) {
  Random random(127);
  CacheModel model(random, shape());
  model.add_sequence(kSequence);
  ASSERT_EQ(model.append(kLayer, rows(20)), AppendResult::kAppended);
  const StreamId stream{kSequence, kLayer, HeadId{1}, kShard};
  const std::vector<float> addend(16, 1.0f);
  const auto refused = [&](const std::vector<std::int32_t>& slots) {
    std::vector<KvCache::ValueUpdate> updates;
    for (const std::int32_t slot : slots) {
      updates.push_back({.slot = slot, .scale = 1, .addend = addend.data()});
    }
    EXPECT_THROW(model.cache().update_values(stream, updates), InvalidArgument);
    std::vector<float> values;
    EXPECT_THROW(model.cache().read_values(stream, slots, values), InvalidArgument);
    model.expect_equal();
  };
  refused({20});
  refused({-1});
  refused({3, 3});
  refused({4, 2});
}

TEST_P(KvCacheCodecs, AForkHoldsTheSameAndGoesItsOwnWay) {
  Random random(124);
  CacheModel model(random, shape());
  const SequenceId fork{8};
  const auto keep_every = [&](SequenceId sequence, std::int32_t nth) {
    for (const StreamId& stream : model.cache().stream_ids(sequence)) {
      const auto count = static_cast<std::int32_t>(model.cache().positions(stream).size());
      std::vector<std::int32_t> keep;
      for (std::int32_t i = 0; i < count; i += nth) keep.push_back(i);
      model.keep(stream, keep);
    }
  };
  for (const std::int32_t length : {0, 1, 15, 16, 17, 53}) {
    SCOPED_TRACE(length);
    model.add_sequence(kSequence);
    ASSERT_EQ(model.append(kLayer, rows(length)), AppendResult::kAppended);
    keep_every(kSequence, 2);  // holes
    ASSERT_EQ(model.fork_sequence(kSequence, fork), AppendResult::kAppended);
    for (const StreamId& stream : model.cache().stream_ids(kSequence)) {
      EXPECT_EQ(model.cache().positions({fork, stream.layer, stream.kv_head, stream.shard}),
                model.cache().positions(stream))
          << "in the same order";
    }
    keep_every(fork, 3);
    ASSERT_EQ(model.append(kLayer, rows(20, length)), AppendResult::kAppended);
    std::vector<Row> other = rows(35, length);
    for (Row& row : other) row.sequence = fork;
    ASSERT_EQ(model.append(kLayer, other), AppendResult::kAppended);
    keep_every(kSequence, 3);
    model.remove_sequence(kSequence);
    model.remove_sequence(fork);
  }
  EXPECT_EQ(model.cache().page_bytes(), 0u);
}

TEST_P(KvCacheCodecs, AForkThatDoesNotFitChangesNothing) {
  Random random(125);
  CacheShape shape = KvCacheCodecs::shape();
  int num_forked = 0;
  int num_refused = 0;
  for (std::size_t kib = 16; kib < 160; kib += 3) {
    shape.budget_bytes = kib * 1024;
    CacheModel model(random, shape);
    model.add_sequence(kSequence);
    Position next = 0;
    while (next < 100 && model.append(kLayer, rows(10, next)) == AppendResult::kAppended) {
      next += 10;
    }
    const std::size_t bytes = model.cache().page_bytes();
    AppendResult result{};
    ASSERT_NO_THROW(result = model.fork_sequence(kSequence, SequenceId{8}));
    const bool forked = result == AppendResult::kAppended;
    EXPECT_EQ(model.cache().page_bytes(), forked ? 2 * bytes : bytes);
    EXPECT_EQ(model.cache().stats().num_sequences, forked ? 2 : 1);
    num_forked += forked ? 1 : 0;
    num_refused += forked ? 0 : 1;
  }
  EXPECT_GT(num_forked, 0);
  EXPECT_GT(num_refused, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Codecs, KvCacheCodecs,
    testing::Values("none", "none:dtype=bf16", "none:dtype=f16", "int8", "none_bounds",
                    "none:dtype=bf16_bounds", "int8:axis=token_bounds", "none_basis",
                    "none:dtype=f16_basis", "int8_basis", "pyramid:full=0.5,int8=0.5",
                    "pyramid:full=0.5,int8=0.5_bounds", "pyramid:full=0.5,int8=0.5_basis",
                    "svd:energy=1,dtype=f32", "svd:energy=1,dtype=bf16_bounds",
                    testing_support::kWholeBeforeRope, "whole:rope=before_bounds"),
    testing_support::LabelOfParam{});

TEST(KvCache, WhatCannotBePackedIsNamed) {
  Random random(117);
  CacheModel model(random, {.codec = "int4"});
  model.add_sequence(kSequence);
  ASSERT_EQ(model.append(kLayer, rows(15)), AppendResult::kAppended);
  const std::vector<float> keys(2 * 5, 1.0f);
  std::vector<float> values = keys;
  values[7] = std::numeric_limits<float>::quiet_NaN();  // of KV head 1
  const Position position = 15;
  try {
    (void)model.cache().append({.layer = kLayer,
                                .sequences = {&kSequence, 1},
                                .positions = {&position, 1},
                                .shards = {&kShard, 1},
                                .keys = {keys.data(), {1, 2, 5}},
                                .values = {values.data(), {1, 2, 5}}});
    FAIL() << "it was packed";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "kv_cache: values of sequence 7, layer 1, KV head 1 are not finite or too large "
                 "for codec int4");
  }
}

TEST(KvCache, ABudgetIsUsedToTheLastPage) {
  Random random(116);
  for (const std::size_t num_pages : {0u, 1u, 2u, 3u, 8u}) {
    CacheShape shape{.num_kv_heads = 1};
    shape.budget_bytes = num_pages * open_page_bytes(shape) + 63;
    CacheModel model(random, shape);
    model.add_sequence(kSequence);
    const auto room = static_cast<std::int32_t>(num_pages) * 16;
    EXPECT_EQ(model.append(kLayer, rows(room + 1)), AppendResult::kPoolFull);
    EXPECT_EQ(model.append(kLayer, rows(room)), AppendResult::kAppended);
    EXPECT_EQ(model.append(kLayer, rows(1, room)), AppendResult::kPoolFull);
  }
}

TEST(KvCache, FreedPagesServeTheNextEntries) {
  Random random(117);
  CacheShape shape{.num_kv_heads = 1};
  shape.budget_bytes = 3 * open_page_bytes(shape);
  CacheModel model(random, shape);
  model.add_sequence(kSequence);
  Position next = 0;
  for (int round = 0; round < 5; ++round) {
    while (model.append(kLayer, rows(1, next)) == AppendResult::kAppended) ++next;
    model.keep({kSequence, kLayer, HeadId{0}, kShard}, {0, 20});
    EXPECT_EQ(model.cache().stats().num_pages, 1);
  }
  EXPECT_EQ(next, 48 + 4 * 46);
}

TEST(KvCache, PositionsOfAStreamMustAscendEvenPastWhatWasEvicted) {
  Random random(118);
  CacheModel model(random, {});
  model.add_sequence(kSequence);
  ASSERT_EQ(model.append(kLayer, rows(20)), AppendResult::kAppended);
  EXPECT_THROW((void)model.append(kLayer, rows(1, 19)), InvalidArgument);
  for (const StreamId& stream : model.cache().stream_ids()) model.keep(stream, {});
  EXPECT_THROW((void)model.append(kLayer, rows(1, 19)), InvalidArgument);
  EXPECT_EQ(model.append(kLayer, rows(1, 20)), AppendResult::kAppended);
  EXPECT_EQ(model.append(kLayer, rows(1, 0, ShardId{0})), AppendResult::kAppended)
      << "another stream counts for itself";
}

TEST(KvCache, ARefusedAppendLeavesTheCacheAsItWas) {
  Random random(119);
  CacheModel model(random, {});
  model.add_sequence(kSequence);
  ASSERT_EQ(model.append(kLayer, rows(20)), AppendResult::kAppended);
  for (const Row& bad : {Row{kSequence, 21, kShard}, Row{kSequence, 30, ShardId{1}},
                         Row{kSequence, 30, ShardId{99}}, Row{SequenceId{8}, 30, kShard}}) {
    std::vector<Row> batch = rows(15, 20);  // fills a page
    batch.push_back(bad);
    EXPECT_THROW((void)model.append(kLayer, batch), InvalidArgument);
    model.expect_equal();
  }
  EXPECT_EQ(model.append(kLayer, rows(20, 20)), AppendResult::kAppended);
}

// Keeping slots must not need more memory than it frees: a full pool is when one evicts.
TEST(KvCache, SlotsCanBeFreedWhenThePoolIsFull) {
  Random random(120);
  for (const char* codec : {"none:dtype=f32", "none:dtype=bf16", "none:dtype=f16"}) {
    SCOPED_TRACE(codec);
    CacheModel model(random,
                     {.codec = codec, .num_kv_heads = 1, .budget_bytes = std::size_t{256} * 1024});
    model.add_sequence(kSequence);
    Position next = 0;
    while (model.append(kLayer, rows(160, next)) == AppendResult::kAppended) next += 160;
    ASSERT_GT(next, 300);
    std::vector<std::int32_t> keep(static_cast<std::size_t>(next) - 1);
    std::iota(keep.begin(), keep.end(), 1);
    EXPECT_NO_THROW(model.keep({kSequence, kLayer, HeadId{0}, kShard}, keep));
  }
}

// Open and sealed pages differ in size; neither may keep the other from the budget.
TEST(KvCache, ASmallBudgetIsSharedByOpenAndSealedPages) {
  Random random(121);
  CacheShape shape{.codec = "none:dtype=bf16", .num_kv_heads = 1};
  shape.budget_bytes = 24 * open_page_bytes(shape);
  CacheModel model(random, shape);
  model.add_sequence(kSequence);
  Position next = 0;
  while (model.append(kLayer, rows(1, next)) == AppendResult::kAppended) ++next;
  EXPECT_GT(model.cache().page_bytes(), *shape.budget_bytes / 2) << next << " tokens";
}

TEST(KvCache, UnknownNamesAreRefused) {
  Random random(122);
  CacheModel model(random, {});
  EXPECT_THROW(model.remove_sequence(kSequence), InvalidArgument);
  model.add_sequence(kSequence);
  EXPECT_THROW(model.add_sequence(kSequence), InvalidArgument);
  EXPECT_THROW((void)model.fork_sequence(kSequence, kSequence), InvalidArgument);
  EXPECT_THROW((void)model.fork_sequence(SequenceId{8}, SequenceId{9}), InvalidArgument);
  std::vector<kernels::StreamView> views;
  EXPECT_THROW((void)model.cache().collect_streams(kLayer, SequenceId{8}, views), InvalidArgument);
  EXPECT_THROW((void)model.cache().positions({SequenceId{8}, kLayer, HeadId{0}, kShard}),
               InvalidArgument);
  EXPECT_THROW((void)model.cache().positions({kSequence, kLayer, HeadId{0}, ShardId{1}}),
               InvalidArgument)
      << "lives on another rank";
  EXPECT_THROW((void)model.cache().positions({kSequence, LayerId{2}, HeadId{0}, kShard}),
               InvalidArgument);
}

TEST(KvCache, SlotsToKeepMustAscendWithinTheStream) {
  Random random(123);
  CacheModel model(random, {});
  model.add_sequence(kSequence);
  ASSERT_EQ(model.append(kLayer, rows(17)), AppendResult::kAppended);
  const StreamId stream{kSequence, kLayer, HeadId{1}, kShard};
  for (const std::vector<std::int32_t>& bad :
       {std::vector<std::int32_t>{-1}, {17}, {3, 3}, {4, 3}, {0, 1, 99}}) {
    EXPECT_THROW(model.cache().keep_slots(stream, bad), InvalidArgument);
    model.expect_equal();
  }
}

}  // namespace
}  // namespace pikv
