// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "compression/tables.hpp"
#include "core/cache/kv_cache.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/label.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_basis.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kDim = 8;
constexpr std::array kFrequencies = {1.0f, 0.1f, 0.01f, 0.001f};
constexpr SequenceId kSequence{3};
constexpr StreamId kStream{kSequence, LayerId{0}, HeadId{0}, ShardId{0}};

/// RoPE in double precision, of the float32 angle that the model has.
std::vector<double> at(const float* key, Position position) {
  std::vector<double> result(kDim);
  for (std::size_t i = 0; i < kDim / 2; ++i) {
    const auto angle = static_cast<double>(static_cast<float>(position) * kFrequencies[i]);
    const double low = static_cast<double>(key[i]);
    const double high = static_cast<double>(key[i + kDim / 2]);
    result[i] = low * std::cos(angle) - high * std::sin(angle);
    result[i + kDim / 2] = high * std::cos(angle) + low * std::sin(angle);
  }
  return result;
}

/// One stream; slot p was appended at position p with the key raw(p) after RoPE.
class TurnSlots : public testing::TestWithParam<std::string> {
 protected:
  TurnSlots() {
    const std::string& name = GetParam();
    codec_ = make_policy("codec", compression::codecs(), name.substr(0, name.find('_')));
    if (name.ends_with("_basis")) {
      basis_ = testing_support::random_basis(
          random_, {.num_layers = 1, .num_kv_heads = 1, .head_dim = kDim});
    }
    cache_.emplace(exec_, KvCacheConfig{.num_kv_heads = 1, .head_dim = kDim, .basis = basis_.get()},
                   map_, 0, *codec_);
    cache_->add_sequence(kSequence);
  }

  void append(Position count) {
    for (Position i = 0; i < count; ++i) {
      const auto position = static_cast<Position>(raw_.size() / kDim);
      const std::vector<float> key = random_.normals(kDim);
      raw_.insert(raw_.end(), key.begin(), key.end());
      std::vector<float> turned;
      for (const double x : at(key.data(), position)) turned.push_back(static_cast<float>(x));
      const ShardId shard{0};
      ASSERT_EQ(cache_->append({.layer = LayerId{0},
                                .sequences = {&kSequence, 1},
                                .positions = {&position, 1},
                                .shards = {&shard, 1},
                                .keys = {turned.data(), {1, 1, kDim}},
                                .values = {key.data(), {1, 1, kDim}}}),
                AppendResult::kAppended);
    }
  }

  void turn(const std::vector<KvCache::Turn>& turns) {
    cache_->turn_slots(kStream, turns, kFrequencies);
    cache_->check_integrity();
  }

  /// Expects the slot at `position` to be the one appended at `origin`, turned.
  void expect_slot(Position position, Position origin, double tolerance) const {
    KvCache::HeadContents contents;
    cache_->read_slots(kSequence, LayerId{0}, HeadId{0}, true, true, contents);
    const auto found = std::ranges::find(contents.positions, position);
    ASSERT_NE(found, contents.positions.end()) << "no slot at " << position;
    const auto slot = static_cast<std::size_t>(found - contents.positions.begin());
    const float* raw = raw_.data() + static_cast<std::size_t>(origin) * kDim;
    const std::vector<double> key = at(raw, position);
    for (std::size_t d = 0; d < kDim; ++d) {
      EXPECT_NEAR(static_cast<double>(contents.keys[slot * kDim + d]), key[d], tolerance);
      EXPECT_NEAR(contents.values[slot * kDim + d], raw[d], tolerance) << "values stay";
    }
  }

  [[nodiscard]] double exact() const { return basis_ ? 2e-5 : 1e-6; }
  [[nodiscard]] static double rounding() {  // of one number below 4
    return GetParam() == "none"              ? 1e-6
           : GetParam() == "none:dtype=f16"  ? 0x1p-9
           : GetParam() == "none_basis"      ? 2e-5
           : GetParam() == "none:dtype=bf16" ? 0x1p-6
                                             : 0.05;
  }

  Random random_{92};
  Exec exec_ = Exec::cpu(1);
  ShardMap map_{1, 1, 1, std::vector<std::int32_t>{0}};
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<const Basis> basis_;
  std::optional<KvCache> cache_;
  std::vector<float> raw_;
};

TEST_P(TurnSlots, AThousandTurnsAreAsExactAsOne) {
  append(16 + 7);  // a sealed page and an open one
  std::vector<std::int32_t> middle = {4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
  cache_->evict_slots(kStream, middle);
  const auto there_and_back = [&](Position away) {
    turn({{0, away}, {1, 13}});
    turn({{away, 0}, {13, 1}});
  };
  there_and_back(4);
  KvCache::HeadContents once, often;
  cache_->read_slots(kSequence, LayerId{0}, HeadId{0}, true, true, once);
  for (Position step = 0; step < 1000; ++step) there_and_back(4 + step % 9);
  cache_->read_slots(kSequence, LayerId{0}, HeadId{0}, true, true, often);
  if (GetParam().starts_with("none") && basis_ == nullptr) {
    EXPECT_EQ(often.keys, once.keys) << "nothing adds up";
  }
  // Once rounded when it was sealed and once when it was turned.
  expect_slot(0, 0, 2 * rounding());
  expect_slot(1, 1, 2 * rounding());
  expect_slot(2, 2, rounding());
  expect_slot(22, 22, exact());
}

TEST_P(TurnSlots, SlotsOfOpenPagesTurnAndAreSealedTurned) {
  append(7);
  turn({{2, 1 + 5}, {6, 2}});  // one takes the place of the other
  expect_slot(6, 2, exact());
  expect_slot(2, 6, exact());
  append(9);
  expect_slot(6, 2, rounding());
  expect_slot(2, 6, rounding());
  turn({{6, 2}, {2, 6}});
  expect_slot(2, 2, rounding());
  expect_slot(6, 6, rounding());
}

TEST_P(TurnSlots, AForkTurnsItsSlotsByItself) {
  append(16 + 2);
  cache_->evict_slots(kStream, std::vector<std::int32_t>{1});
  turn({{0, 1}});
  const SequenceId fork{8};
  ASSERT_EQ(cache_->fork_sequence(kSequence, fork), AppendResult::kAppended);
  cache_->turn_slots({fork, LayerId{0}, HeadId{0}, ShardId{0}}, std::vector<KvCache::Turn>{{1, 0}},
                     kFrequencies);
  expect_slot(1, 0, 2 * rounding());
  cache_->remove_sequence(kSequence);
  ASSERT_EQ(cache_->fork_sequence(fork, kSequence), AppendResult::kAppended);
  expect_slot(0, 0, 2 * rounding());
  expect_slot(17, 17, exact());
}

TEST_P(TurnSlots, CopiesAreCountedAndGoWithTheirSlots) {
  append(5);
  const std::vector<std::int32_t> second = {1};
  cache_->evict_slots(kStream, second);
  const std::size_t before = cache_->stats().table_bytes;
  turn({{0, 1}});
  EXPECT_GE(cache_->stats().table_bytes, before + kDim * sizeof(float));
  const std::vector<std::int32_t> first = {0};  // the one that was turned
  cache_->evict_slots(kStream, first);
  cache_->check_integrity();
  turn({{2, 0}});
  expect_slot(0, 2, exact());
  cache_->remove_sequence(kSequence);
  EXPECT_EQ(cache_->stats().table_bytes, 0u);
}

TEST_P(TurnSlots, ASlotMayBecomeTheNewestOfItsStream) {
  append(3);
  turn({{0, 50}});
  expect_slot(50, 0, exact());
  const Position position = 50;
  const ShardId shard{0};
  const std::vector<float> key(kDim, 1.0f);
  const View<const float, 3> row{key.data(), {1, 1, kDim}};
  EXPECT_THROW((void)cache_->append({.layer = LayerId{0},
                                     .sequences = {&kSequence, 1},
                                     .positions = {&position, 1},
                                     .shards = {&shard, 1},
                                     .keys = row,
                                     .values = row}),
               InvalidArgument);
}

TEST_P(TurnSlots, ImpossibleTurnsAreRefusedAndChangeNothing) {
  append(4);
  const auto refused = [&](const std::vector<KvCache::Turn>& turns) {
    EXPECT_THROW(turn(turns), InvalidArgument);
    cache_->check_integrity();
    for (Position p = 0; p < 4; ++p) expect_slot(p, p, exact());
  };
  refused({{4, 0}});          // no such slot
  refused({{0, 1}});          // taken
  refused({{0, -1}});         //
  refused({{3, 2}, {2, 2}});  // two to one place
  refused({{kNoPosition, 0}});
}

INSTANTIATE_TEST_SUITE_P(DTypes, TurnSlots,
                         testing::Values("none", "none:dtype=f16", "none:dtype=bf16", "int8",
                                         "none_basis", "int8_basis", "pyramid:full=0.5,int8=0.5"),
                         testing_support::LabelOfParam{});

}  // namespace
}  // namespace pikv
