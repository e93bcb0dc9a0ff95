// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Merged values on any number of ranks: bit for bit those of one rank, which are those of a plain
// sum, and nothing travels but what is given.
#include "core/eviction/merge_pass.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "compression/tables.hpp"
#include "core/base/random.hpp"
#include "core/comm/message_fields.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kLayers = 5;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kDim = 5;
constexpr std::int64_t kShards = 7;
constexpr Position kTokens = 230;
constexpr SequenceId kSequence{4};

ShardMap shards_over(int num_ranks) {
  std::vector<std::int32_t> owners;
  for (std::int64_t i = 0; i < kLayers * kShards; ++i) {
    owners.push_back(static_cast<std::int32_t>((i % kShards + i / kShards) % num_ranks));
  }
  return {kLayers, kShards, num_ranks, owners};
}

ModelConfig model() {
  ModelConfig config;
  config.num_layers = kLayers;
  config.num_heads = kKvHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim = kDim;
  return config;
}

/// A draw in [0, 1) for a slot, or two, of a head.
double draw(LayerId layer, std::size_t head, Position a, Position b = 0) {
  return random_uniform(77, index(layer) * 16 + head,
                        (static_cast<std::uint64_t>(a) << 32) + static_cast<std::uint64_t>(b));
}

/// Any slot that goes may give to any that stays, by chance, and slots lose some of their own.
class RandomTerms : public Scheduler {
 public:
  RandomTerms(const MergeNeeds& needs, double share) : needs_(needs), share_(share) {}
  [[nodiscard]] bool evicts() const override { return true; }
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] std::int64_t next_run(std::int64_t, std::int64_t, const KvBudget&) const override {
    return kNever;
  }
  void score(Exec&, const LayerSlots&, std::span<std::vector<float>>) const override {}
  void select(const SequenceScores&, const KvBudget&,
              std::span<std::vector<std::int32_t>>) const override {}
  [[nodiscard]] MergeNeeds merge_needs() const override { return needs_; }

  void merge(Exec&, const LayerMerge& layer,
             std::span<std::vector<ValueTerm>> terms) const override {
    for (std::size_t h = 0; h < terms.size(); ++h) {
      const std::vector<Position>& positions = layer.heads[h].positions;
      const auto n = static_cast<std::int64_t>(positions.size());
      if (needs_.keys) {
        EXPECT_EQ(layer.keys[h].extent(0), n);
      }
      if (needs_.values) {
        EXPECT_EQ(layer.values[h].extent(0), n);
      }
      for (std::int32_t to = 0; to < n; ++to) {
        if (std::ranges::binary_search(layer.evict[h], to)) continue;
        const Position p = positions[static_cast<std::size_t>(to)];
        for (const std::int32_t from : layer.evict[h]) {
          const Position q = positions[static_cast<std::size_t>(from)];
          const double chance = draw(layer.layer, h, p, q);
          if (chance < share_) add(layer, h, {to, from, static_cast<float>(chance)}, terms[h]);
        }
        if (p % 7 == 0) terms[h].push_back({to, to, 0.75f});
      }
    }
  }

 private:
  /// Where keys and values are there, they are those of these slots: the first key is the position.
  void add(const LayerMerge& layer, std::size_t h, ValueTerm term,
           std::vector<ValueTerm>& terms) const {
    if (needs_.keys) {
      EXPECT_EQ(layer.keys[h].row(term.from)[0],
                static_cast<float>(layer.heads[h].positions[static_cast<std::size_t>(term.from)]));
    }
    if (needs_.values) term.weight *= layer.values[h].row(term.from)[1];
    terms.push_back(term);
  }

  MergeNeeds needs_;
  double share_;
};

/// What a rank holds of a sequence with heads of different lengths.
class Holding {
 public:
  Holding(Exec& exec, Communicator& comm, const Codec& codec)
      : map_(shards_over(comm.size())),
        cache_(exec, {.num_kv_heads = kKvHeads, .head_dim = kDim, .budget_bytes = {}}, map_,
               comm.rank(), codec),
        tap_(exec,
             {.num_layers = kLayers,
              .num_heads = kKvHeads,
              .num_kv_heads = kKvHeads,
              .head_dim = kDim},
             {}),
        gather_(model_, cache_, tap_, comm),
        pass_(exec, model_, cache_, gather_, comm),
        rank_(comm.rank()) {
    Random random(193);
    cache_.add_sequence(kSequence);
    for (std::int64_t l = 0; l < kLayers; ++l) {
      for (Position p = 0; p < kTokens; ++p) {
        std::vector<float> keys = random.normals(kKvHeads * kDim);
        const std::vector<float> values = random.normals(kKvHeads * kDim);
        for (std::size_t h = 0; h < kKvHeads; ++h) keys[h * kDim] = static_cast<float>(p);
        const auto shard = id_from<ShardId>(random.integer(0, kShards - 1));
        if (map_.rank_of(id_from<LayerId>(l), shard) != rank_) continue;
        EXPECT_EQ(cache_.append({.layer = id_from<LayerId>(l),
                                 .sequences = {&kSequence, 1},
                                 .positions = {&p, 1},
                                 .shards = {&shard, 1},
                                 .keys = {keys.data(), {1, kKvHeads, kDim}},
                                 .values = {values.data(), {1, kKvHeads, kDim}}}),
                  AppendResult::kAppended);
      }
    }
    for (const StreamId& stream : cache_.stream_ids()) {
      std::vector<std::int32_t> evict;
      const std::vector<Position> positions = cache_.positions(stream);
      for (std::size_t i = 0; i < positions.size(); ++i) {
        const Position p = positions[i];
        if (draw(stream.layer, index(stream.kv_head), p) < 0.2) {
          evict.push_back(static_cast<std::int32_t>(i));
        }
      }
      cache_.evict_slots(stream, evict);
    }
    (void)gather_.run(kSequence, kTokens, {.in_order = false}, 0, kLayers);
  }

  [[nodiscard]] KvCache& cache() { return cache_; }
  [[nodiscard]] MergePass& pass() { return pass_; }

  /// Values by position, of each head.
  [[nodiscard]] std::vector<std::map<Position, std::vector<float>>> values() const {
    std::vector<std::map<Position, std::vector<float>>> result;
    KvCache::HeadContents contents;
    for (std::int64_t i = 0; i < kLayers * kKvHeads; ++i) {
      cache_.read_slots(kSequence, id_from<LayerId>(i / kKvHeads), id_from<HeadId>(i % kKvHeads),
                        false, true, contents);
      auto& head = result.emplace_back();
      for (std::size_t s = 0; s < contents.positions.size(); ++s) {
        const auto begin = contents.values.begin() + static_cast<std::ptrdiff_t>(s * kDim);
        head[contents.positions[s]] = {begin, begin + kDim};
      }
    }
    return result;
  }

 private:
  ModelConfig model_ = model();
  ShardMap map_;
  KvCache cache_;
  AttentionTap tap_;
  SlotGather gather_;
  MergePass pass_;
  int rank_;
};

class MergePassRanks : public testing::TestWithParam<std::string> {
 protected:
  /// What every rank knows when it is known what goes, of any number of ranks: one that holds all
  /// shards has their streams as they are everywhere.
  struct Known {
    SequenceScores scores;
    std::vector<std::vector<std::int32_t>> evict;
    std::vector<std::vector<std::int64_t>> counts;
    [[nodiscard]] MergePass::Selection selection() const { return {scores, evict, counts}; }
  };
  [[nodiscard]] Known known(int num_ranks) {
    const ShardMap map = shards_over(num_ranks);
    Known known{.scores = {.sequence = kSequence,
                           .next_position = kTokens,
                           .num_context = kTokens,
                           .num_kv_heads = kKvHeads,
                           .heads = {}},
                .evict = {},
                .counts = {}};
    for (std::int64_t i = 0; i < kLayers * kKvHeads; ++i) {
      const auto layer = id_from<LayerId>(i / kKvHeads);
      const auto head = id_from<HeadId>(i % kKvHeads);
      HeadScores& slots = known.scores.heads.emplace_back();
      std::vector<std::int64_t>& counts = known.counts.emplace_back();
      for (int rank = 0; rank < num_ranks; ++rank) {
        const std::size_t before = slots.positions.size();
        for (const ShardId shard : map.shards_of(layer, rank)) {
          const auto more = whole_.cache().positions({kSequence, layer, head, shard});
          slots.positions.insert(slots.positions.end(), more.begin(), more.end());
        }
        counts.push_back(static_cast<std::int64_t>(slots.positions.size() - before));
      }
      slots.scores.resize(slots.positions.size());
      std::vector<std::int32_t>& evict = known.evict.emplace_back();
      if (layer == LayerId{2}) continue;  // nothing goes there
      for (std::size_t s = 0; s < slots.positions.size(); ++s) {
        if (draw(layer, index(head), slots.positions[s]) < 0.5) {
          evict.push_back(static_cast<std::int32_t>(s));
        }
      }
    }
    return known;
  }

  Exec exec_ = Exec::cpu(1);
  std::unique_ptr<const Codec> codec_ =
      make_policy("codec", compression::codecs(), "none:dtype=" + GetParam());
  std::unique_ptr<Communicator> single_ = make_single_communicator();
  Holding whole_{exec_, *single_, *codec_};
  Holding mine_{exec_, world(), *codec_};
};

TEST_P(MergePassRanks, GivesTheValuesOfOneRankBitForBit) {
  for (const MergeNeeds& needs :
       {MergeNeeds{.merges = true}, MergeNeeds{.merges = true, .keys = true, .values = true},
        MergeNeeds{.merges = true, .keys = true}}) {
    SCOPED_TRACE(testing::Message() << "keys " << needs.keys << ", values " << needs.values);
    const RandomTerms scheduler(needs, 0.1);
    const auto before = whole_.values();
    const Known alone = known(1);
    const std::int64_t num_merged = whole_.pass().run(scheduler, alone.selection());
    EXPECT_EQ(mine_.pass().run(scheduler, known(world().size()).selection()), num_merged);
    EXPECT_GT(num_merged, 300);
    whole_.cache().check_integrity();
    mine_.cache().check_integrity();

    const auto expected = whole_.values();
    const auto actual = mine_.values();
    for (std::size_t i = 0; i < actual.size(); ++i) {
      for (const auto& [position, value] : actual[i]) {
        EXPECT_EQ(value, expected[i].at(position)) << "head " << i << ", position " << position;
      }
    }
    // One rank against the definition.
    const double rounding = GetParam() == "f32" ? 1e-6 : 0x1p-8;
    std::size_t num_changed = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto layer = id_from<LayerId>(i / kKvHeads);
      const std::size_t h = i % kKvHeads;
      for (const auto& [to, value] : expected[i]) {
        const bool stays = layer == LayerId{2} || draw(layer, h, to) >= 0.5;
        if (value != before[i].at(to)) ++num_changed;
        for (std::size_t d = 0; d < kDim; ++d) {
          const bool weighed = stays && layer != LayerId{2} && to % 7 == 0;
          double sum = (weighed ? 0.75 : 1.0) * static_cast<double>(before[i].at(to)[d]);
          for (const auto& [from, given] : before[i]) {
            if (!stays || layer == LayerId{2} || draw(layer, h, from) >= 0.5) continue;
            const double chance = draw(layer, h, to, from);
            if (chance >= 0.1) continue;
            sum += chance * static_cast<double>(given[d]) *
                   (needs.values ? static_cast<double>(given[1]) : 1.0);
          }
          ASSERT_NEAR(static_cast<double>(value[d]), sum, rounding * (4 + std::abs(sum)))
              << "head " << i << ", position " << to;
        }
      }
    }
    EXPECT_GT(num_changed, 200u);
  }
}

TEST_P(MergePassRanks, MovesAValueOnceToEachRankThatTakesIt) {
  const RandomTerms scheduler({.merges = true}, 0.002);
  const Known all = known(world().size());
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < all.evict.size(); ++i) {
    const auto layer = id_from<LayerId>(i / kKvHeads);
    const std::vector<Position>& positions = all.scores.heads[i].positions;
    const auto owner = [&](std::int32_t slot) {
      int rank = 0;
      for (std::int64_t end = all.counts[i][0]; end <= slot;) {
        end += all.counts[i][static_cast<std::size_t>(++rank)];
      }
      return rank;
    };
    for (const std::int32_t from : all.evict[i]) {
      if (owner(from) != world().rank()) continue;
      std::set<int> takers;
      for (std::int32_t to = 0; to < static_cast<std::int32_t>(positions.size()); ++to) {
        if (std::ranges::binary_search(all.evict[i], to)) continue;
        if (draw(layer, i % kKvHeads, positions[static_cast<std::size_t>(to)],
                 positions[static_cast<std::size_t>(from)]) < 0.002) {
          takers.insert(owner(to));
        }
      }
      takers.erase(world().rank());
      expected += takers.size() * field_bytes<float>(kDim);
    }
  }
  const std::uint64_t before = world().stats().bytes_sent;
  EXPECT_GT(mine_.pass().run(scheduler, all.selection()), 0);
  EXPECT_EQ(world().stats().bytes_sent - before, expected);
  const std::uint64_t operations = world().stats().num_operations;
  EXPECT_EQ(mine_.pass().run(RandomTerms({.merges = true}, 0), all.selection()), 0);
  EXPECT_EQ(world().stats().num_operations, operations) << "nothing is given, nobody is asked";
}

/// One term of layer 1, head 0.
class OneTerm final : public RandomTerms {
 public:
  explicit OneTerm(const ValueTerm& term) : RandomTerms({.merges = true}, 0), term_(term) {}
  void merge(Exec&, const LayerMerge& layer,
             std::span<std::vector<ValueTerm>> terms) const override {
    if (layer.layer == LayerId{1}) terms[0].push_back(term_);
  }

 private:
  ValueTerm term_;
};

TEST_P(MergePassRanks, TermsThatMakeNoSenseAreErrors) {
  const Known all = known(world().size());
  const std::vector<std::int32_t>& evict = all.evict[kKvHeads];
  const std::int32_t gone = evict[0];
  std::int32_t kept = 0;
  while (std::ranges::binary_search(evict, kept)) ++kept;
  const auto other = static_cast<std::int32_t>(all.scores.heads[kKvHeads].positions.size());
  const auto message = [&](const ValueTerm& term) -> std::string {
    try {
      (void)mine_.pass().run(OneTerm(term), all.selection());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message({kept, gone, 0.5f}), "");
  EXPECT_EQ(message({kept, kept, 0.5f}), "");
  EXPECT_EQ(message({gone, gone, 0.5f}), concat("scheduler: in head 2 of 10, slot ", gone, " of ",
                                                other, " cannot get 0.5 of slot ", gone));
  EXPECT_NE(message({other, gone, 0.5f}), "");
  EXPECT_NE(message({kept, -1, 0.5f}), "");
  EXPECT_NE(message({kept, kept == 0 ? other - 1 : kept - 1, std::nanf("")}), "");
  EXPECT_NE(message({kept, gone, std::numeric_limits<float>::infinity()}), "");
  std::int32_t second = kept + 1;
  while (std::ranges::binary_search(evict, second)) ++second;
  EXPECT_NE(message({kept, second, 0.5f}), "") << "what stays gives nothing";
}

INSTANTIATE_TEST_SUITE_P(DTypes, MergePassRanks, testing::Values("f32", "bf16"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv
