// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// ShardedAttention on the ranks of this run against one plain sum over all keys, in double
// precision, that every rank works out from the same random numbers.
#include "core/model/sharded_attention.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/tables.hpp"
#include "core/base/random.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_basis.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kGroup = 3;
constexpr std::int64_t kHeads = kKvHeads * kGroup;
constexpr std::int64_t kD = 24;
constexpr LayerId kLayer{1};

/// The owner of an entry by its position and sequence alone, in no pattern.
class ScatterRouter final : public KvRouter {
 public:
  void choose_owners(const KvRouterInput& input, std::span<ShardId> owners) const override {
    for (std::size_t t = 0; t < owners.size(); ++t) {
      owners[t] = id_from<ShardId>(random_bits(3, index(input.sequences[t]),
                                               static_cast<std::uint64_t>(input.positions[t])) %
                                   static_cast<std::uint64_t>(input.num_shards));
    }
  }
};

/// One new token of a sequence: every rank knows all of them, one rank computes it.
struct Row {
  SequenceId sequence;
  Position position;
  int rank;
  std::vector<float> q, k, v;
};

class ShardedAttentionTest : public testing::Test {
 protected:
  void start(std::vector<std::int32_t> owners, std::int64_t num_sequences,
             const std::string& codec = "none", bool has_basis = false) {
    const auto num_shards = static_cast<std::int64_t>(owners.size());
    std::vector<std::int32_t> two_layers(owners.size(), 0);  // a layer before that is not used
    two_layers.insert(two_layers.end(), owners.begin(), owners.end());
    map_.emplace(2, num_shards, world().size(), two_layers);
    codec_ = make_policy("codec", compression::codecs(), codec);
    if (has_basis) {
      Random same_on_all(911);
      basis_ = testing_support::random_basis(
          same_on_all, {.num_layers = 2, .num_kv_heads = kKvHeads, .head_dim = kD});
    }
    cache_.emplace(exec_,
                   KvCacheConfig{.num_kv_heads = kKvHeads, .head_dim = kD, .basis = basis_.get()},
                   *map_, world().rank(), *codec_);
    attention_.emplace(
        exec_, world(), *cache_, *map_, router_,
        ShardedAttention::Config{.num_heads = kHeads, .num_kv_heads = kKvHeads, .head_dim = kD});
    slots_.assign(static_cast<std::size_t>(num_sequences * kKvHeads), {});
    next_.assign(static_cast<std::size_t>(num_sequences), 0);
    for (std::int64_t s = 0; s < num_sequences; ++s) cache_->add_sequence(id_from<SequenceId>(s));
  }

  [[nodiscard]] std::vector<std::int32_t> random_owners(std::int64_t num_shards) {
    std::vector<std::int32_t> owners;
    for (std::int64_t s = 0; s < num_shards; ++s) {
      owners.push_back(static_cast<std::int32_t>(random_.integer(0, world().size() - 1)));
    }
    return owners;
  }

  /// New tokens of a sequence over the ranks: lower ranks take earlier ones, some take none.
  void add_rows(std::vector<Row>& rows, SequenceId sequence, std::int64_t count) {
    int rank = static_cast<int>(random_.integer(0, world().size() - 1));
    for (std::int64_t i = 0; i < count; ++i) {
      if (random_.integer(0, 3) == 0) rank = std::min(rank + 1, world().size() - 1);
      Row row{.sequence = sequence,
              .position = next_[index(sequence)]++,
              .rank = rank,
              .q = random_.normals(kHeads * kD, logit_scale_),
              .k = random_.normals(kKvHeads * kD),
              .v = random_.normals(kKvHeads * kD)};
      if (equal_keys_) row.k.assign(row.k.size(), 0.5f);
      rows.push_back(std::move(row));
    }
  }

  /// Runs a step and compares the rows of this rank with the reference.
  void step(const std::vector<Row>& rows, std::optional<std::int32_t> window = std::nullopt) {
    StepRows mine;
    std::vector<const Row*> my_rows;
    std::vector<float> q, k, v;
    for (const Row& row : rows) {
      for (std::size_t head = 0; head < static_cast<std::size_t>(kKvHeads); ++head) {
        const auto begin = static_cast<std::ptrdiff_t>(head) * kD;
        slots_[index(row.sequence) * static_cast<std::size_t>(kKvHeads) + head].push_back(
            {.position = row.position,
             .key = {row.k.begin() + begin, row.k.begin() + begin + kD},
             .value = {row.v.begin() + begin, row.v.begin() + begin + kD}});
      }
      if (row.rank != world().rank()) continue;
      mine.push(0, row.sequence, row.position);
      my_rows.push_back(&row);
      q.insert(q.end(), row.q.begin(), row.q.end());
      k.insert(k.end(), row.k.begin(), row.k.end());
      v.insert(v.end(), row.v.begin(), row.v.end());
    }
    const std::vector<std::int32_t> last_expert(my_rows.size(), -1);
    auto o = poisoned(mine.size() * kHeads * kD);
    attention_->run({.layer = kLayer,
                     .rows = mine,
                     .last_expert = last_expert,
                     .window = window,
                     .q = {q.data(), {mine.size(), kHeads, kD}},
                     .k = {k.data(), {mine.size(), kKvHeads, kD}},
                     .v = {v.data(), {mine.size(), kKvHeads, kD}},
                     .o = {o.data(), {mine.size(), kHeads, kD}}});
    cache_->check_integrity();
    for (std::size_t r = 0; r < my_rows.size(); ++r) {
      for (std::size_t head = 0; head < static_cast<std::size_t>(kHeads); ++head) {
        const auto& slots =
            slots_[index(my_rows[r]->sequence) * static_cast<std::size_t>(kKvHeads) +
                   head / static_cast<std::size_t>(kGroup)];
        const reference::Attended expected = reference::attend(
            std::span(my_rows[r]->q).subspan(head * static_cast<std::size_t>(kD), std::size_t{kD}),
            1.0 / std::sqrt(static_cast<double>(kD)), my_rows[r]->position, window, slots);
        // Errors of scores are relative errors of weights; see tests/kernels/attention_case.cpp.
        const double bound = tolerance_ + reference::kEpsilon * 64 * (4 + expected.largest_score);
        for (std::size_t d = 0; d < static_cast<std::size_t>(kD); ++d) {
          const std::size_t at =
              (r * static_cast<std::size_t>(kHeads) + head) * std::size_t{kD} + d;
          ASSERT_NEAR(static_cast<double>(o[at]), expected.state.o[d], bound)
              << "position " << my_rows[r]->position << ", head " << head;
        }
      }
    }
  }

  /// A prompt in chunks, then tokens one at a time, for three sequences.
  void run_steps(std::optional<std::int32_t> window = std::nullopt) {
    for (const std::int64_t chunk : {1, 37, 16}) {
      std::vector<Row> rows;
      for (std::uint32_t s = 0; s < 3; ++s) add_rows(rows, SequenceId{s}, chunk + s);
      step(rows, window);
    }
    for (int i = 0; i < 20; ++i) {
      std::vector<Row> rows;
      for (std::uint32_t s = 0; s < 3; ++s) {
        if (random_.integer(0, 3) != 0) add_rows(rows, SequenceId{s}, 1);
      }
      step(rows, window);
    }
  }

  Random random_{221};  // the same on every rank
  float logit_scale_ = 1.0f;
  bool equal_keys_ = false;
  double tolerance_ = 0.0;
  Exec exec_ = Exec::cpu(1);
  ScatterRouter router_;
  std::optional<ShardMap> map_;
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<const Basis> basis_;
  std::optional<KvCache> cache_;
  std::optional<ShardedAttention> attention_;
  std::vector<std::vector<reference::Slot>> slots_;  // [sequences, Hkv]
  std::vector<Position> next_;
};

TEST_F(ShardedAttentionTest, AnyMapGivesAttentionOverAllKeys) {
  // Fewer shards than ranks, so that some own nothing; as many; and more.
  for (const std::int64_t num_shards : {1, 2, 3, 4, 9, 64}) {
    SCOPED_TRACE(testing::Message() << num_shards << " shards");
    start(random_owners(num_shards), 3);
    run_steps();
  }
}

TEST_F(ShardedAttentionTest, OneRankMayHoldEverything) {
  for (std::int32_t holder = 0; holder < world().size(); ++holder) {
    start(std::vector<std::int32_t>(5, holder), 3);
    run_steps();
    EXPECT_EQ(cache_->page_bytes() > 0, holder == world().rank());
  }
}

TEST_F(ShardedAttentionTest, AWindowReachesOverRanks) {
  start(random_owners(8), 3);
  run_steps(19);
}

TEST_F(ShardedAttentionTest, EqualScoresWeighEqual) {
  equal_keys_ = true;
  start(random_owners(8), 3);
  run_steps();
}

TEST_F(ShardedAttentionTest, LargeLogitsMergeWithoutOverflow) {
  logit_scale_ = 60.0f;
  start(random_owners(8), 3);
  run_steps();
}

TEST_F(ShardedAttentionTest, SixteenBitPagesCostTheirRoundingOnly) {
  start(random_owners(4), 3, "none:dtype=bf16");
  tolerance_ = 0.04;  // keys and values of up to 4, rounded to 8 bits
  run_steps();
}

TEST_F(ShardedAttentionTest, CoordinatesOfTheCacheDoNotShow) {
  start(random_owners(4), 3, "none", /*has_basis=*/true);
  tolerance_ *= 10;  // products of rows with two matrices
  run_steps();
  step({});
  run_steps(19);
}

TEST_F(ShardedAttentionTest, AStepWithoutRowsIsLegal) {
  start(random_owners(4), 3);
  step({});
  run_steps();
  step({});
}

TEST_F(ShardedAttentionTest, BytesOfADecodeStepDoNotGrowWithTheContext) {
  std::vector<std::int32_t> owners;
  for (std::int32_t s = 0; s < 8; ++s) owners.push_back(s % world().size());
  start(owners, 1);
  std::vector<std::uint64_t> bytes;
  for (const std::int64_t context : {8, 500}) {
    std::vector<Row> prompt;
    add_rows(prompt, SequenceId{0}, context);
    step(prompt);
    const std::uint64_t before = world().stats().bytes_sent + world().stats().bytes_received;
    for (int i = 0; i < 10; ++i) {
      std::vector<Row> rows;
      add_rows(rows, SequenceId{0}, 1);
      rows[0].rank = 0;
      step(rows);
    }
    bytes.push_back(world().stats().bytes_sent + world().stats().bytes_received - before);
  }
  // Which steps send their entry elsewhere differs, by an entry and its header each.
  const double entries = 10.0 * (2.0 * kKvHeads * kD * sizeof(float) + 64);
  EXPECT_NEAR(static_cast<double>(bytes[0]), static_cast<double>(bytes[1]), entries);
  EXPECT_EQ(bytes[0] > 0, world().size() > 1);
}

}  // namespace
}  // namespace pikv
