// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sequences whose full pages hold keys as they were before RoPE (svd:rope=before).
#include "core/cache/before_rope.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compression/compose.hpp"
#include "compression/fit_basis.hpp"
#include "core/cache/kv_cache.hpp"
#include "core/engine/fit_sequence.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/pre_rope.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kDim = 64;
constexpr std::int64_t kHeads = 2;
constexpr std::int64_t kShards = 3;
constexpr std::int32_t kPageSlots = 16;
constexpr SequenceId kSequence{7};
constexpr LayerId kLayer{0};

class BeforeRope : public testing::Test {
 protected:
  void make(const std::string& codec, bool key_bounds = false) {
    codec_ = compression::make_codec(codec);
    cache_ = std::make_unique<KvCache>(exec_,
                                       KvCacheConfig{.num_kv_heads = kHeads,
                                                     .head_dim = kDim,
                                                     .page_slots = kPageSlots,
                                                     .key_bounds = key_bounds,
                                                     .inverse_frequencies = frequencies_},
                                       map_, 0, *codec_);
    cache_->add_sequence(kSequence);
    before_.assign(kHeads, {});
    values_.assign(kHeads, {});
  }

  /// The next positions, in turn to all shards. Keys before RoPE lie in `rank` directions of which
  /// the later ones are weaker.
  void append(std::int64_t count, std::int64_t rank = kDim) {
    const auto n = static_cast<std::size_t>(count);
    std::vector<Position> positions(n);
    std::iota(positions.begin(), positions.end(), next_position());
    std::vector<float> keys;
    const std::vector<float> values = random_.normals(count * kHeads * kDim);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t head = 0; head < kHeads; ++head) {
        const std::vector<double> row = row_of_rank(head, rank);
        const std::vector<double> key = testing_support::turned(row, positions[i], frequencies_);
        keys.insert(keys.end(), key.begin(), key.end());
        before_[head].insert(before_[head].end(), row.begin(), row.end());
        const auto value = values.begin() + static_cast<std::ptrdiff_t>((i * kHeads + head) * kDim);
        values_[head].insert(values_[head].end(), value, value + kDim);
      }
    }
    const std::vector<SequenceId> sequences(n, kSequence);
    std::vector<ShardId> shards;
    for (const Position p : positions) shards.push_back(id_from<ShardId>(p % kShards));
    ASSERT_EQ(cache_->append({.layer = kLayer,
                              .sequences = sequences,
                              .positions = positions,
                              .shards = shards,
                              .keys = {keys.data(), {count, kHeads, kDim}},
                              .values = {values.data(), {count, kHeads, kDim}}}),
              AppendResult::kAppended);
    cache_->check_integrity();
  }
  [[nodiscard]] Position next_position() const {
    return static_cast<Position>(before_[0].size() / kDim);
  }

  void fit() {
    ModelConfig model;
    model.num_layers = 1;
    model.num_kv_heads = kHeads;
    model.head_dim = kDim;
    fit_on_all_ranks(*cache_, *comm_, model, kSequence);
    cache_->check_integrity();
  }

  /// Of what is read less what was appended: squares in full pages over those of all rows, and the
  /// largest difference in an open page.
  struct Errors {
    double keys = 0;
    double values = 0;
    double newest = 0;
  };
  [[nodiscard]] Errors errors(std::size_t head, SequenceId sequence = kSequence) const {
    KvCache::HeadContents slots;
    cache_->read_slots(sequence, kLayer, id_from<HeadId>(head), true, true, slots);
    Errors errors;
    double of_keys = 0;
    double of_values = 0;
    std::size_t slot = 0;
    for (const KvCache::HeadContents::Part& part : slots.parts) {
      for (std::int32_t i = 0; i < part.num_slots; ++i, ++slot) {
        const bool is_open = i >= part.num_slots / kPageSlots * kPageSlots;
        const Position position = slots.positions[slot];
        const std::vector<double> key = key_at(head, position, position);
        for (std::size_t d = 0; d < kDim; ++d) {
          const double value = values_[head][static_cast<std::size_t>(position) * kDim + d];
          const double key_error = static_cast<double>(slots.keys[slot * kDim + d]) - key[d];
          const double value_error = static_cast<double>(slots.values[slot * kDim + d]) - value;
          of_keys += key[d] * key[d];
          of_values += value * value;
          if (is_open) {
            errors.newest = std::max({errors.newest, std::abs(key_error), std::abs(value_error)});
          } else {
            errors.keys += key_error * key_error;
            errors.values += value_error * value_error;
          }
        }
      }
    }
    errors.keys /= of_keys;
    errors.values /= of_values;
    return errors;
  }

  /// The key that was appended at a position, as it is at another.
  [[nodiscard]] std::vector<double> key_at(std::size_t head, Position from, Position to) const {
    return testing_support::turned(
        std::span(before_[head]).subspan(static_cast<std::size_t>(from) * kDim, kDim), to,
        frequencies_);
  }

  [[nodiscard]] std::vector<float> read_key(std::size_t head, Position position) const {
    KvCache::HeadContents slots;
    cache_->read_slots(kSequence, kLayer, id_from<HeadId>(head), true, true, slots);
    const auto found = std::ranges::find(slots.positions, position);
    const auto first = static_cast<std::ptrdiff_t>(found - slots.positions.begin()) * kDim;
    return {slots.keys.begin() + first, slots.keys.begin() + first + kDim};
  }

  /// The least share of squares that any rows of rank r leave out of the keys before RoPE.
  [[nodiscard]] double tail(std::size_t head, std::int64_t rank) const {
    RowMoments moments(kDim);
    moments.add(std::vector<float>(before_[head].begin(), before_[head].end()));
    const std::vector<float> energy = compression::fit_basis(moments, {}, false).energy;
    return std::accumulate(energy.begin() + rank, energy.end(), 0.0) /
           std::accumulate(energy.begin(), energy.end(), 0.0);
  }

  Random random_{741};
  Exec exec_ = Exec::cpu(1);
  std::vector<float> frequencies_ = testing_support::some_frequencies(kDim);
  ShardMap map_{1, kShards, 1, {0, 0, 0}};
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<KvCache> cache_;
  std::vector<std::vector<double>> before_;  // [Hkv] of [n, D]: keys before RoPE
  std::vector<std::vector<float>> values_;   // [Hkv] of [n, D]

 private:
  [[nodiscard]] std::vector<double> row_of_rank(std::size_t head, std::int64_t rank) {
    if (directions_.empty()) directions_ = random_.normals(kHeads * kDim * kDim);
    std::vector<double> row(kDim);
    for (std::int64_t r = 0; r < rank; ++r) {
      const double factor = static_cast<double>(random_.normal()) / static_cast<double>(1 + r);
      for (std::size_t d = 0; d < kDim; ++d) {
        row[d] += factor * static_cast<double>(
                               directions_[(head * kDim + static_cast<std::size_t>(r)) * kDim + d]);
      }
    }
    return row;
  }

  std::vector<float> directions_;
};

TEST_F(BeforeRope, KeysTurnBackByTheirPositions) {
  std::vector<Position> positions = {0, 1, 17, 4000, 131'071};
  std::vector<float> keys;
  std::vector<float> expected;
  for (const Position position : positions) {
    const std::vector<float> row = random_.normals(kDim);
    expected.insert(expected.end(), row.begin(), row.end());
    const std::vector<double> key = testing_support::turned(
        std::vector<double>(row.begin(), row.end()), position, frequencies_);
    keys.insert(keys.end(), key.begin(), key.end());
  }
  turn_back_keys(exec_, positions, {frequencies_.data(), {kDim / 2}}, keys);
  for (std::size_t i = 0; i < keys.size(); ++i) ASSERT_NEAR(keys[i], expected[i], 1e-6);
}

// The property that makes it worth while: after RoPE the same keys are of full rank.
TEST_F(BeforeRope, KeysOfThatRankComeBack) {
  for (const std::int64_t rank : {16, 32, 48}) {
    make(concat("svd:dtype=f32,rank=", rank, ",rope=before/none"));
    append(300, rank);
    fit();
    append(200, rank);  // in the same directions
    make(concat("svd:dtype=f32,rank=", rank, "/none"));
    append(300, rank);
    fit();
    EXPECT_GT(errors(0).keys, 1e-3) << "after RoPE";
  }
  for (const std::int64_t rank : {16, 32, 48}) {
    make(concat("svd:dtype=f32,rank=", rank, ",rope=before/none"));
    append(300, rank);
    fit();
    append(200, rank);
    for (std::size_t head = 0; head < kHeads; ++head) {
      EXPECT_LT(errors(head).keys, 1e-10);
      EXPECT_EQ(errors(head).values, 0);
      EXPECT_LT(errors(head).newest, 1e-6) << "open pages are in the model's coordinates";
    }
  }
}

// Eckart and Young, of the rows of all streams together: all of them are in full pages here.
TEST_F(BeforeRope, TheErrorIsTheLeastOfAnyKeysOfThatRank) {
  for (const std::int64_t rank : {16, 32, 48}) {
    make(concat("svd:dtype=f32,rank=", rank, ",rope=before"));
    append(8 * kShards * kPageSlots);
    fit();
    for (std::size_t head = 0; head < kHeads; ++head) {
      EXPECT_GT(tail(head, rank), 1e-5);
      EXPECT_NEAR(errors(head).keys / tail(head, rank), 1.0, 1e-3);
      EXPECT_GT(errors(head).values, 0.1) << "values have the same rank";
    }
  }
}

TEST_F(BeforeRope, EachHeadGetsTheRankThatItsEnergyNeeds) {
  make("svd:dtype=f32,energy=0.999,rope=before");
  append(kShards * kPageSlots * 6);
  fit();
  for (std::size_t head = 0; head < kHeads; ++head) {
    EXPECT_LT(errors(head).keys, 0.00101);
    EXPECT_GT(errors(head).keys, 0);
  }
}

TEST_F(BeforeRope, AHeadThatKeepsAllCoordinatesKeepsItsKeys) {
  make("svd:dtype=f32,energy=1,rope=before/none");
  append(200);
  fit();
  append(100);
  for (std::size_t head = 0; head < kHeads; ++head) {
    EXPECT_LT(errors(head).keys, 1e-12);
    EXPECT_LT(errors(head).newest, 1e-6);
  }
}

TEST_F(BeforeRope, CoordinatesMayBeStoredInIntegers) {
  make("svd:rank=32,rope=before+int8:axis=token/none");
  append(300, 32);
  fit();
  EXPECT_LT(errors(0).keys, 1e-4);
  EXPECT_GT(errors(0).keys, 1e-8);
  make("svd:rank=32,rope=before+int8:axis=token");
  append(300, 32);
  fit();
  EXPECT_LT(errors(0).keys, 1e-4);
}

TEST_F(BeforeRope, ASequenceMayBeFittedAgain) {
  make("svd:dtype=f32,rank=32,rope=before/none");
  append(100, 16);
  for (int round = 0; round < 4; ++round) {
    fit();
    append(23, 16);
    EXPECT_LT(errors(1).keys, 1e-10);
    EXPECT_LT(errors(1).newest, 1e-4);
  }
}

TEST_F(BeforeRope, AForkSharesTheBasisAndGoesItsOwnWay) {
  make("svd:dtype=f32,rank=32,rope=before");
  append(150);
  const std::size_t before_fit = cache_->stats().table_bytes;
  fit();
  const std::size_t tables = cache_->stats().table_bytes;
  EXPECT_GE(tables - before_fit, 2 * kHeads * kDim * kDim * sizeof(float)) << "the basis counts";
  EXPECT_LT(tables - before_fit, 2 * kHeads * kDim * kDim * sizeof(float) + 1024);
  const SequenceId fork{8};
  ASSERT_EQ(cache_->fork_sequence(kSequence, fork), AppendResult::kAppended);
  cache_->check_integrity();
  EXPECT_LT(cache_->stats().table_bytes - tables, kHeads * kDim * kDim * sizeof(float));
  const Errors before = errors(0, fork);
  EXPECT_EQ(before.keys, errors(0).keys);
  append(50);
  cache_->remove_sequence(kSequence);
  cache_->check_integrity();
  EXPECT_EQ(errors(0, fork).keys, before.keys);
  cache_->remove_sequence(fork);
  EXPECT_EQ(cache_->stats().table_bytes, 0u);
}

TEST_F(BeforeRope, SlotsThatStayKeepTheirKeysWhenOthersGo) {
  make("svd:dtype=f32,rank=32,rope=before");
  append(300);
  for (const StreamId& id : cache_->stream_ids(kSequence)) {
    cache_->evict_slots(id, std::vector<std::int32_t>{2, 3, 40});
  }
  fit();
  const std::vector<float> before = read_key(1, 60);
  for (const StreamId& id : cache_->stream_ids(kSequence)) {
    std::vector<std::int32_t> odd;
    for (std::int32_t i = 1; i < 80; i += 2) {
      if (i != 19) odd.push_back(i);
    }
    cache_->evict_slots(id, odd);
    cache_->check_integrity();
  }
  const std::vector<float> after = read_key(1, 60);
  for (std::size_t d = 0; d < kDim; ++d) EXPECT_NEAR(after[d], before[d], 1e-5);
  append(100);
}

TEST_F(BeforeRope, AKeyThatIsTurnedIsOfTheSameRankElsewhere) {
  make("svd:dtype=f32,rank=16,rope=before/none", /*key_bounds=*/true);
  append(300, 16);
  fit();
  const StreamId id = cache_->stream_ids(kSequence)[0];  // shard 0: positions 0, 3, 6, ...
  cache_->turn_slots(id, std::vector<KvCache::Turn>{{0, 901}, {30, 0}, {297, 904}}, frequencies_);
  cache_->check_integrity();
  for (const auto& [from, to] : {std::pair<Position, Position>{0, 901}, {30, 0}, {297, 904}}) {
    const std::vector<float> key = read_key(0, to);
    const std::vector<double> expected = key_at(0, from, to);
    for (std::size_t d = 0; d < kDim; ++d) {
      EXPECT_NEAR(static_cast<double>(key[d]), expected[d], 1e-4);
    }
  }
  const std::vector<float> other = read_key(0, 33);
  const std::vector<double> expected = key_at(0, 33, 33);
  for (std::size_t d = 0; d < kDim; ++d) {
    EXPECT_NEAR(static_cast<double>(other[d]), expected[d], 1e-4) << "those beside it stay";
  }
}

TEST_F(BeforeRope, ValuesChangeAndKeysStay) {
  make("svd:dtype=f32,rank=16,rope=before/none");
  append(100, 16);
  fit();
  const StreamId id = cache_->stream_ids(kSequence)[0];
  const std::vector<float> addend = random_.normals(kDim);
  std::vector<float> before, after;
  cache_->read_values(id, std::vector<std::int32_t>{3, 33}, before);
  cache_->update_values(
      id, std::vector<KvCache::ValueUpdate>{{.slot = 3, .scale = 0.5f, .addend = addend.data()},
                                            {.slot = 33, .scale = 0.0f, .addend = addend.data()}});
  cache_->check_integrity();
  cache_->read_values(id, std::vector<std::int32_t>{3, 33}, after);
  for (std::size_t d = 0; d < kDim; ++d) {
    EXPECT_NEAR(after[d], 0.5f * before[d] + addend[d], 1e-5);
    EXPECT_NEAR(after[kDim + d], addend[d], 1e-5);
  }
  EXPECT_LT(errors(0).keys, 1e-10);
}

TEST_F(BeforeRope, WithoutFrequenciesOfRopeThereIsNoCache) {
  const std::vector<float> frequencies = frequencies_;
  for (const std::size_t count : {0u, 31u}) {
    frequencies_.assign(frequencies.begin(), frequencies.begin() + static_cast<int>(count));
    EXPECT_THROW(make("svd:rank=32,rope=before"), InvalidArgument);
  }
  frequencies_ = {};
  EXPECT_NO_THROW(make("svd:rank=32"));
}

TEST_F(BeforeRope, ABasisThatDoesNotFitTheFormsIsRefused) {
  make("svd:dtype=f32,rank=32,rope=before/none");
  append(100);
  const CachedModel model{.num_layers = 1, .num_kv_heads = kHeads, .head_dim = kDim};
  std::uint8_t narrow = 0;
  while (!cache_->sealed_layouts().data[narrow].keys.pre_rope) ++narrow;
  for (const std::size_t count : {std::size_t{0}, std::size_t{kHeads * kDim * kDim - 1}}) {
    const auto basis = std::make_shared<const SequenceBasis>(
        SequenceBasis{.basis = Basis(model, {}, {}),
                      .forms = {narrow, narrow},
                      .pre_rope_keys = std::vector<float>(count)});
    EXPECT_THROW(cache_->enter_basis(kSequence, basis), InvalidArgument);
  }
  cache_->check_integrity();
  EXPECT_LT(errors(0).keys, 1e-12);
}

}  // namespace
}  // namespace pikv
