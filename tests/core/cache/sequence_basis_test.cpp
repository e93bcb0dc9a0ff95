// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sequences in coordinates of their own, found in their rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compression/compose.hpp"
#include "compression/fit_basis.hpp"
#include "core/cache/kv_cache.hpp"
#include "core/engine/fit_sequence.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kDim = 64;
constexpr std::int64_t kHeads = 2;
constexpr std::int64_t kShards = 3;
constexpr std::int32_t kPageSlots = 16;
constexpr SequenceId kSequence{7};
constexpr LayerId kLayer{0};

class SequenceBasisTest : public testing::Test {
 protected:
  void make(const std::string& codec, std::optional<std::size_t> budget_bytes = {}) {
    codec_ = compression::make_codec(codec);
    cache_ = std::make_unique<KvCache>(exec_,
                                       KvCacheConfig{.num_kv_heads = kHeads,
                                                     .head_dim = kDim,
                                                     .page_slots = kPageSlots,
                                                     .budget_bytes = budget_bytes},
                                       map_, 0, *codec_);
    cache_->add_sequence(kSequence);
    for (auto* rows : {&keys_, &values_}) rows->assign(kHeads, {});
  }

  /// The next positions, in turn to all shards; rows that lie in `rank` directions.
  AppendResult append(std::int64_t count, std::int64_t rank = kDim) {
    const auto n = static_cast<std::size_t>(count);
    const std::vector<float> keys = rows_of_rank(count, rank, 5);
    const std::vector<float> values = rows_of_rank(count, rank, 6);
    const auto first = static_cast<Position>(keys_[0].size() / kDim);
    std::vector<Position> positions(n);
    std::iota(positions.begin(), positions.end(), first);
    const std::vector<SequenceId> sequences(n, kSequence);
    std::vector<ShardId> shards;
    for (const Position p : positions) shards.push_back(id_from<ShardId>(p % kShards));
    const AppendResult result = cache_->append({.layer = kLayer,
                                                .sequences = sequences,
                                                .positions = positions,
                                                .shards = shards,
                                                .keys = {keys.data(), {count, kHeads, kDim}},
                                                .values = {values.data(), {count, kHeads, kDim}}});
    cache_->check_integrity();
    if (result != AppendResult::kAppended) return result;
    for (std::size_t i = 0; i < n * kHeads; ++i) {
      for (const bool key : {true, false}) {
        const float* row = (key ? keys : values).data() + i * kDim;
        std::vector<float>& of_head = (key ? keys_ : values_)[i % kHeads];
        of_head.insert(of_head.end(), row, row + kDim);
      }
    }
    return result;
  }

  void fit() {
    ModelConfig model;
    model.num_layers = 1;
    model.num_kv_heads = kHeads;
    model.head_dim = kDim;
    fit_on_all_ranks(*cache_, *comm_, model, kSequence);
    cache_->check_integrity();
  }

  /// Sum of squares of what is read less what was appended, of slots whose page is full or all.
  struct Errors {
    double keys = 0;
    double values = 0;
    double newest = 0;  // the largest difference in an open page
  };
  [[nodiscard]] Errors errors(std::size_t head, SequenceId sequence = kSequence) const {
    KvCache::HeadContents slots;
    cache_->read_slots(sequence, kLayer, id_from<HeadId>(head), true, true, slots);
    Errors errors;
    std::size_t slot = 0;
    for (const KvCache::HeadContents::Part& part : slots.parts) {
      for (std::int32_t i = 0; i < part.num_slots; ++i, ++slot) {
        const bool is_open = i >= part.num_slots / kPageSlots * kPageSlots;
        const auto at = static_cast<std::size_t>(slots.positions[slot]) * kDim;
        for (std::size_t d = 0; d < kDim; ++d) {
          const double key = static_cast<double>(slots.keys[slot * kDim + d]) -
                             static_cast<double>(keys_[head][at + d]);
          const double value = static_cast<double>(slots.values[slot * kDim + d]) -
                               static_cast<double>(values_[head][at + d]);
          if (is_open) {
            errors.newest = std::max({errors.newest, std::abs(key), std::abs(value)});
          } else {
            errors.keys += key * key;
            errors.values += value * value;
          }
        }
      }
    }
    return errors;
  }

  /// The least that any rows of rank r differ from these by.
  static double tail(const std::vector<float>& rows, std::int64_t rank) {
    RowMoments moments(kDim);
    moments.add(rows);
    const std::vector<float> energy = compression::fit_basis(moments, {}, false).energy;
    return std::accumulate(energy.begin() + rank, energy.end(), 0.0) *
           static_cast<double>(moments.count);
  }

  static double squares(const std::vector<float>& rows) {
    return std::inner_product(rows.begin(), rows.end(), rows.begin(), 0.0);
  }

  [[nodiscard]] std::vector<float> rows_of_rank(std::int64_t count, std::int64_t rank,
                                                std::uint32_t seed) {
    Random fixed(seed);  // the same directions in every append
    const std::vector<float> directions = fixed.normals(kDim * kDim);
    std::vector<float> rows;
    for (std::int64_t i = 0; i < count * kHeads; ++i) {
      std::vector<float> row(kDim);
      for (std::int64_t r = 0; r < rank; ++r) {
        const float factor = random_.normal() / static_cast<float>(1 + r % 9);
        for (std::int64_t d = 0; d < kDim; ++d) {
          row[static_cast<std::size_t>(d)] +=
              factor * directions[static_cast<std::size_t>(r * kDim + d)];
        }
      }
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
  }

  [[nodiscard]] std::vector<StreamId> streams(SequenceId sequence = kSequence) const {
    return cache_->stream_ids(sequence);
  }

  Random random_{641};
  Exec exec_ = Exec::cpu(1);
  ShardMap map_{1, kShards, 1, {0, 0, 0}};
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<float>> keys_, values_;  // [Hkv] of [n, D]
};

// Eckart and Young, of the rows of all streams together: all of them are in full pages here.
TEST_F(SequenceBasisTest, TheErrorIsTheLeastOfAnyRowsOfThatRank) {
  for (const std::int64_t rank : {16, 32, 48}) {
    make(concat("svd:dtype=f32,rank=", rank));
    ASSERT_EQ(append(8 * kShards * kPageSlots), AppendResult::kAppended);
    fit();
    for (std::size_t head = 0; head < kHeads; ++head) {
      const Errors found = errors(head);
      const double of_keys = squares(keys_[head]);
      const double of_values = squares(values_[head]);
      EXPECT_GT(tail(keys_[head], rank) / of_keys, 1e-3);
      EXPECT_NEAR(found.keys / of_keys, tail(keys_[head], rank) / of_keys, 1e-4);
      EXPECT_NEAR(found.values / of_values, tail(values_[head], rank) / of_values, 1e-4);
    }
  }
}

TEST_F(SequenceBasisTest, RowsOfThatRankComeBack) {
  make("svd:dtype=f32,rank=16");
  ASSERT_EQ(append(200, 16), AppendResult::kAppended);
  fit();
  ASSERT_EQ(append(200, 16), AppendResult::kAppended) << "in the same directions";
  for (std::size_t head = 0; head < kHeads; ++head) {
    const Errors found = errors(head);
    EXPECT_LT(found.keys, 1e-9 * squares(keys_[head]));
    EXPECT_LT(found.values, 1e-9 * squares(values_[head]));
  }
}

TEST_F(SequenceBasisTest, TheNewestSlotsStayExactBeforeAndAfter) {
  make("svd:dtype=f32,rank=16");
  ASSERT_EQ(append(100), AppendResult::kAppended);
  EXPECT_EQ(errors(0).keys, 0) << "all coordinates, before the prompt is complete";
  for (int round = 0; round < 4; ++round) {
    fit();
    EXPECT_LT(errors(1).newest, 1e-4);
    EXPECT_GT(errors(1).keys, 1.0);
    ASSERT_EQ(append(23), AppendResult::kAppended);
    EXPECT_LT(errors(1).newest, 1e-4);
  }
}

TEST_F(SequenceBasisTest, BytesFallAsTheRankOverTheHeadSize) {
  for (const std::int64_t rank : {16, 32, 48}) {
    make(concat("svd:rank=", rank));
    ASSERT_EQ(append(20 * kShards * kPageSlots), AppendResult::kAppended);
    const std::size_t positions = 20 * kShards * kHeads * kPageSlots * sizeof(Position);
    const std::size_t before = cache_->page_bytes() - positions;
    const std::size_t tables = cache_->stats().table_bytes;
    fit();
    EXPECT_EQ((cache_->page_bytes() - positions) * kDim, before * static_cast<std::size_t>(rank));
    const std::size_t basis = 2 * kHeads * kDim * kDim * sizeof(float);
    EXPECT_GE(cache_->stats().table_bytes, tables + basis);
    EXPECT_LT(cache_->stats().table_bytes, tables + basis + 1024) << "each matrix is kept once";
    const std::size_t fitted = cache_->page_bytes();
    ASSERT_EQ(append(kShards * kPageSlots), AppendResult::kAppended);
    EXPECT_EQ(cache_->page_bytes() - fitted, fitted / 20) << "later pages are as narrow";
  }
}

TEST_F(SequenceBasisTest, EachHeadGetsTheRankThatItsEnergyNeeds) {
  make("svd:dtype=f32,energy=0.99");
  ASSERT_EQ(append(kShards * kPageSlots * 6), AppendResult::kAppended);
  fit();
  for (std::size_t head = 0; head < kHeads; ++head) {
    EXPECT_LT(errors(head).keys, 0.0101 * squares(keys_[head]));
    EXPECT_LT(errors(head).values, 0.0101 * squares(values_[head]));
    EXPECT_GT(errors(head).keys, 0);
  }
}

TEST_F(SequenceBasisTest, AForkSharesTheBasisAndGoesItsOwnWay) {
  make("svd:dtype=f32,rank=32");
  ASSERT_EQ(append(150), AppendResult::kAppended);
  fit();
  const std::size_t tables = cache_->stats().table_bytes;
  const SequenceId fork{8};
  ASSERT_EQ(cache_->fork_sequence(kSequence, fork), AppendResult::kAppended);
  cache_->check_integrity();
  EXPECT_EQ(cache_->basis_of(fork), cache_->basis_of(kSequence));
  EXPECT_LT(cache_->stats().table_bytes - tables, kHeads * kDim * kDim * sizeof(float));
  const Errors before = errors(0, fork);
  EXPECT_EQ(before.keys, errors(0).keys);
  ASSERT_EQ(append(50), AppendResult::kAppended);
  cache_->remove_sequence(kSequence);
  cache_->check_integrity();
  EXPECT_EQ(errors(0, fork).keys, before.keys);
  EXPECT_EQ(errors(0, fork).newest, before.newest);
  cache_->remove_sequence(fork);
  EXPECT_EQ(cache_->page_bytes(), 0u);
  EXPECT_EQ(cache_->stats().table_bytes, 0u);
}

TEST_F(SequenceBasisTest, SlotsThatStayKeepTheirNumbersWhenOthersGo) {
  make("svd:dtype=f32,rank=32");
  ASSERT_EQ(append(300), AppendResult::kAppended);
  for (const StreamId& id : streams()) {  // holes are left out when pages are written anew
    cache_->evict_slots(id, std::vector<std::int32_t>{2, 3, 40});
  }
  fit();
  const auto row_at = [&](Position position) {
    KvCache::HeadContents slots;
    cache_->read_slots(kSequence, kLayer, HeadId{1}, true, true, slots);
    const auto found = std::ranges::find(slots.positions, position);
    const auto first = static_cast<std::ptrdiff_t>(found - slots.positions.begin()) * kDim;
    return std::vector(slots.keys.begin() + first, slots.keys.begin() + first + kDim);
  };
  const std::vector<float> before = row_at(60);
  for (const StreamId& id : streams()) {
    std::vector<std::int32_t> odd;
    for (std::int32_t i = 1; i < 80; i += 2) {
      if (i != 19) odd.push_back(i);
    }
    cache_->evict_slots(id, odd);
    cache_->check_integrity();
  }
  const std::vector<float> after = row_at(60);
  for (std::size_t d = 0; d < kDim; ++d) EXPECT_NEAR(after[d], before[d], 1e-5);
  ASSERT_EQ(append(100), AppendResult::kAppended);
}

TEST_F(SequenceBasisTest, ValuesChangeInTheModelsCoordinates) {
  make("svd:dtype=f32,rank=64");
  ASSERT_EQ(append(100), AppendResult::kAppended);
  fit();
  const StreamId id = streams()[0];
  const std::vector<float> addend = random_.normals(kDim);
  std::vector<float> before, after;
  cache_->read_values(id, std::vector<std::int32_t>{3, 33}, before);
  cache_->update_values(
      id, std::vector<KvCache::ValueUpdate>{{.slot = 3, .scale = 0.5f, .addend = addend.data()},
                                            {.slot = 33, .scale = 0.0f, .addend = addend.data()}});
  cache_->check_integrity();
  cache_->read_values(id, std::vector<std::int32_t>{3, 33}, after);
  for (std::size_t d = 0; d < kDim; ++d) {
    EXPECT_NEAR(after[d], 0.5f * before[d] + addend[d], 1e-4);
    EXPECT_NEAR(after[kDim + d], addend[d], 1e-4);
  }
}

TEST_F(SequenceBasisTest, OperandsThatAreNotFittedKeepTheirOwnCoordinates) {
  make("svd:dtype=f32,rank=32/int8");
  ASSERT_EQ(append(8 * kShards * kPageSlots), AppendResult::kAppended);
  const double values = errors(0).values;
  fit();
  EXPECT_NEAR(errors(0).keys / tail(keys_[0], 32), 1.0, 1e-3);
  EXPECT_NEAR(errors(0).values / values, 1.0, 0.5) << "rounded twice at most";
}

TEST_F(SequenceBasisTest, WithLessThanAPageOfSlotsNothingChanges) {
  make("svd:dtype=f32,rank=16");
  ASSERT_EQ(append(kPageSlots - 1), AppendResult::kAppended);
  fit();
  EXPECT_EQ(cache_->basis_of(kSequence), nullptr);
  ASSERT_EQ(append(200), AppendResult::kAppended);
  EXPECT_EQ(errors(0).keys, 0);
}

TEST_F(SequenceBasisTest, AHeadWithLessThanAPageOfSlotsStaysWhole) {
  make("svd:dtype=f32,rank=16");
  ASSERT_EQ(append(200), AppendResult::kAppended);
  for (const StreamId& id : streams()) {
    if (id.kv_head == HeadId{1}) cache_->keep_slots(id, std::vector<std::int32_t>{0, 5, 30});
  }
  fit();
  ASSERT_EQ(append(200), AppendResult::kAppended);
  EXPECT_GT(errors(0).keys, 1.0);
  EXPECT_LT(errors(1).keys, 1e-6);
}

TEST_F(SequenceBasisTest, WithoutRoomPagesStayAsTheyAre) {
  make("svd:rank=48");
  for (int i = 0; i < 80; ++i) ASSERT_EQ(append(50), AppendResult::kAppended);
  const std::size_t whole = cache_->page_bytes();
  make("svd:rank=48", whole + 512 * 1024);
  for (int i = 0; i < 80; ++i) ASSERT_EQ(append(50), AppendResult::kAppended);
  const Errors before = errors(0);
  fit();
  EXPECT_EQ(cache_->basis_of(kSequence), nullptr);
  EXPECT_EQ(cache_->page_bytes(), whole);
  EXPECT_EQ(errors(0).keys, before.keys);
}

TEST_F(SequenceBasisTest, MemoryOfWholePagesServesNarrowOnes) {
  make("svd:rank=16");
  for (int i = 0; i < 80; ++i) ASSERT_EQ(append(50), AppendResult::kAppended);
  const std::size_t whole = cache_->page_bytes();
  make("svd:rank=16", whole * 3 / 2);
  for (int i = 0; i < 80; ++i) ASSERT_EQ(append(50), AppendResult::kAppended);
  fit();
  ASSERT_NE(cache_->basis_of(kSequence), nullptr);
  std::int64_t count = 4000;
  while (append(100) == AppendResult::kAppended) count += 100;
  EXPECT_GT(count, 12'000) << "of slots of a quarter of the bytes";
}

TEST_F(SequenceBasisTest, NumbersThatAreNotFiniteAreNamed) {
  make("svd:dtype=f32,rank=16");
  ASSERT_EQ(append(40), AppendResult::kAppended);
  std::vector<float> keys(kHeads * kDim, 1.0f);
  std::vector<float> values = keys;
  values[kDim + 3] = std::numeric_limits<float>::infinity();  // of KV head 1
  const Position position = 40;
  const ShardId shard{0};
  ASSERT_EQ(cache_->append({.layer = kLayer,
                            .sequences = {&kSequence, 1},
                            .positions = {&position, 1},
                            .shards = {&shard, 1},
                            .keys = {keys.data(), {1, kHeads, kDim}},
                            .values = {values.data(), {1, kHeads, kDim}}}),
            AppendResult::kAppended);
  try {
    fit();
    FAIL() << "it was fitted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "kv_cache: values of sequence 7, layer 0, KV head 1 are not finite");
  }
}

}  // namespace
}  // namespace pikv
