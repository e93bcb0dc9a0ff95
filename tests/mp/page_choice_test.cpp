// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Lone rows read the pages of the largest bounds, whatever the ranks that hold them: attention on
// the ranks of this run against a plain sum over the pages that a plain reference chooses.
#include "core/model/page_choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "compression/tables.hpp"
#include "core/base/random.hpp"
#include "core/model/sharded_attention.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kGroup = 3;
constexpr std::int64_t kHeads = kKvHeads * kGroup;
constexpr std::int64_t kD = 24;
constexpr std::int32_t kPageSlots = 16;

ShardId owner(SequenceId sequence, Position position, std::int64_t num_shards) {
  return id_from<ShardId>(random_bits(5, index(sequence), static_cast<std::uint64_t>(position)) %
                          static_cast<std::uint64_t>(num_shards));
}

class ScatterRouter final : public KvRouter {
 public:
  void choose_owners(const KvRouterInput& input, std::span<ShardId> owners) const override {
    for (std::size_t t = 0; t < owners.size(); ++t) {
      owners[t] = owner(input.sequences[t], input.positions[t], input.num_shards);
    }
  }
};

/// Reads layer 0 whole and so many pages of the others.
class SomePages final : public PageReader {
 public:
  explicit SomePages(std::int64_t num_pages, bool measures = false)
      : num_pages_(num_pages), measures_(measures) {}
  [[nodiscard]] bool reads_all(LayerId layer) const override { return layer == LayerId{0}; }
  [[nodiscard]] std::int64_t num_pages(std::int64_t, std::int32_t, const KvBudget&) const override {
    return num_pages_;
  }
  [[nodiscard]] kernels::GroupReduce group_reduce() const override {
    return kernels::GroupReduce::kMax;
  }
  [[nodiscard]] bool measures() const override { return measures_; }

 private:
  std::int64_t num_pages_;
  bool measures_;
};

/// What a page holds, as the test writes it down.
struct Page {
  std::vector<reference::Slot> slots;
};

double bound(std::span<const float> q, const Page& page) {
  double sum = 0;
  for (std::size_t d = 0; d < q.size(); ++d) {
    double largest = -INFINITY;
    for (const reference::Slot& slot : page.slots) {
      largest = std::max(largest, static_cast<double>(q[d]) * static_cast<double>(slot.key[d]));
    }
    sum += largest;
  }
  return sum;
}

double largest_logit(std::span<const float> q, const Page& page) {
  double largest = -INFINITY;
  for (const reference::Slot& slot : page.slots) {
    double logit = 0;
    for (std::size_t d = 0; d < q.size(); ++d) {
      logit += static_cast<double>(q[d]) * static_cast<double>(slot.key[d]);
    }
    largest = std::max(largest, logit);
  }
  return largest;
}

std::vector<reference::Slot> slots_of(const std::vector<const Page*>& pages) {
  std::vector<reference::Slot> slots;
  for (const Page* page : pages) {
    slots.insert(slots.end(), page->slots.begin(), page->slots.end());
  }
  return slots;
}

class PageChoiceTest : public testing::Test {
 protected:
  void start(std::int64_t num_shards, const PageReader* reader, LayerId layer = LayerId{1}) {
    layer_ = layer;
    num_shards_ = num_shards;
    std::vector<std::int32_t> owners;
    for (std::int64_t s = 0; s < 2 * num_shards; ++s) {
      owners.push_back(static_cast<std::int32_t>(random_bits(6, static_cast<std::uint64_t>(s), 0) %
                                                 static_cast<std::uint64_t>(world().size())));
    }
    map_.emplace(2, num_shards, world().size(), owners);
    cache_.emplace(exec_,
                   KvCacheConfig{.num_kv_heads = kKvHeads,
                                 .head_dim = kD,
                                 .page_slots = kPageSlots,
                                 .key_bounds = reader != nullptr,
                                 .budget_bytes = std::nullopt},
                   *map_, world().rank(), *codec_);
    attention_.emplace(
        exec_, world(), *cache_, *map_, router_,
        ShardedAttention::Config{
            .num_heads = kHeads, .num_kv_heads = kKvHeads, .head_dim = kD, .page_reader = reader});
    pages_.clear();
    next_ = {0, 0};
    for (std::uint32_t s = 0; s < 2; ++s) cache_->add_sequence(SequenceId{s});
  }

  struct Row {
    SequenceId sequence;
    Position position;
    int rank;
    std::vector<float> q, k, v;
  };

  /// New tokens of a sequence; where there are several, lower ranks take earlier ones.
  void add_rows(std::vector<Row>& rows, std::uint32_t s, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto rank =
          count == 1 ? static_cast<std::int64_t>(s) % world().size() : i * world().size() / count;
      Row& row = rows.emplace_back(Row{.sequence = SequenceId{s},
                                       .position = next_[s]++,
                                       .rank = static_cast<int>(rank),
                                       .q = random_->normals(kHeads * kD, 2.0f),
                                       .k = random_->normals(kKvHeads * kD),
                                       .v = random_->normals(kKvHeads * kD)});
      for (std::size_t h = 0; h < std::size_t{kKvHeads}; ++h) {
        auto& stream = pages_[{s, h, owner(row.sequence, row.position, num_shards_)}];
        if (stream.empty() || stream.back().slots.size() == std::size_t{kPageSlots}) {
          stream.emplace_back();
        }
        const auto begin = static_cast<std::ptrdiff_t>(h) * kD;
        stream.back().slots.push_back({row.position,
                                       {row.k.begin() + begin, row.k.begin() + begin + kD},
                                       {row.v.begin() + begin, row.v.begin() + begin + kD}});
      }
    }
  }

  /// Outputs [rows of this rank, H, D].
  std::vector<float> step(const std::vector<Row>& rows,
                          std::optional<std::int32_t> window = std::nullopt) {
    StepRows mine;
    std::vector<float> q, k, v;
    for (const Row& row : rows) {
      if (row.rank != world().rank()) continue;
      mine.push(0, row.sequence, row.position);
      q.insert(q.end(), row.q.begin(), row.q.end());
      k.insert(k.end(), row.k.begin(), row.k.end());
      v.insert(v.end(), row.v.begin(), row.v.end());
    }
    const std::vector<std::int32_t> last_expert(static_cast<std::size_t>(mine.size()), -1);
    auto o = poisoned(mine.size() * kHeads * kD);
    attention_->run({.layer = layer_,
                     .rows = mine,
                     .last_expert = last_expert,
                     .window = window,
                     .q = {q.data(), {mine.size(), kHeads, kD}},
                     .k = {k.data(), {mine.size(), kKvHeads, kD}},
                     .v = {v.data(), {mine.size(), kKvHeads, kD}},
                     .o = {o.data(), {mine.size(), kHeads, kD}}});
    return o;
  }

  /// How many pages each KV head of each row's sequence has.
  [[nodiscard]] std::map<std::pair<std::size_t, std::size_t>, std::int64_t> pages_in_reach(
      const std::vector<Row>& rows) const {
    std::map<std::pair<std::size_t, std::size_t>, std::int64_t> counts;
    for (const auto& [key, stream] : pages_) {
      const std::size_t sequence = std::get<0>(key);
      const auto asks = [&](const Row& row) { return index(row.sequence) == sequence; };
      if (std::ranges::none_of(rows, asks)) continue;
      counts[{sequence, std::get<1>(key)}] += static_cast<std::int64_t>(stream.size());
    }
    return counts;
  }

  /// The best pages of a head, by the rule of core/policy/page_reader.hpp or by another score.
  [[nodiscard]] std::vector<const Page*> best_pages(
      const Row& row, std::size_t kv_head, std::int64_t num_pages,
      std::optional<std::int32_t> window,
      double (*score)(std::span<const float> q, const Page& page) = bound) const {
    struct Ranked {
      bool own;
      double score;
      const Page* page;
    };
    std::vector<Ranked> ranked;
    for (const auto& [key, stream] : pages_) {
      if (std::get<0>(key) != index(row.sequence) || std::get<1>(key) != kv_head) continue;
      for (const Page& page : stream) {
        const Position newest = page.slots.back().position;
        if (window && newest <= row.position - *window) continue;
        double best = -INFINITY;
        for (std::size_t g = 0; g < std::size_t{kGroup}; ++g) {
          const auto q = std::span(row.q).subspan((kv_head * kGroup + g) * kD, std::size_t{kD});
          best = std::max(best, score(q, page));
        }
        ranked.push_back({newest == row.position, best, &page});
      }
    }
    std::ranges::sort(ranked, [](const Ranked& a, const Ranked& b) {
      return a.own != b.own ? a.own : a.score > b.score;
    });
    std::vector<const Page*> pages;
    for (std::size_t i = 0; i < std::min(ranked.size(), static_cast<std::size_t>(num_pages)); ++i) {
      pages.push_back(ranked[i].page);
    }
    return pages;
  }

  /// `num_pages`: that each row reads.
  void expect_reads(const std::vector<Row>& rows, const std::vector<float>& o,
                    std::int64_t num_pages, std::optional<std::int32_t> window = std::nullopt) {
    auto actual = o.begin();
    for (const Row& row : rows) {
      if (row.rank != world().rank()) continue;
      for (std::size_t head = 0; head < std::size_t{kHeads}; ++head) {
        const auto slots = slots_of(best_pages(row, head / kGroup, num_pages, window));
        const reference::Attended expected = reference::attend(
            std::span(row.q).subspan(head * kD, std::size_t{kD}),
            1.0 / std::sqrt(static_cast<double>(kD)), row.position, window, slots);
        const double bound = reference::kEpsilon * 64 * (4 + expected.largest_score);
        for (std::size_t d = 0; d < std::size_t{kD}; ++d) {
          ASSERT_NEAR(static_cast<double>(*actual++), expected.state.o[d], bound)
              << "position " << row.position << ", head " << head;
        }
      }
    }
  }

  [[nodiscard]] ReadStats all_stats() const {
    const ReadStats mine = attention_->read_stats();
    std::array<std::int64_t, 2> sums = {mine.num_pages_there, mine.num_pages_read};
    world().all_reduce(std::span<std::int64_t>(sums), ReduceOp::kSum);
    return {.num_pages_there = sums[0], .num_pages_read = sums[1]};
  }

  static constexpr std::int64_t kAll = 1 << 20;
  std::optional<Random> random_{std::in_place, 411};  // the same on every rank
  Exec exec_ = Exec::cpu(1);
  ScatterRouter router_;
  std::unique_ptr<const Codec> codec_ = make_policy("codec", compression::codecs(), "none");
  std::optional<ShardMap> map_;
  std::optional<KvCache> cache_;
  std::optional<ShardedAttention> attention_;
  LayerId layer_{};
  std::int64_t num_shards_ = 0;
  std::map<std::tuple<std::size_t, std::size_t, ShardId>, std::vector<Page>> pages_;
  std::array<Position, 2> next_{};
};

TEST_F(PageChoiceTest, LoneRowsReadTheBestPagesOfAllRanks) {
  for (const std::int64_t num_shards : {1, 3, 9}) {
    for (const std::int64_t num_pages : {1, 3, 8}) {
      SCOPED_TRACE(testing::Message() << num_shards << " shards, " << num_pages << " pages");
      const SomePages reader(num_pages);
      start(num_shards, &reader);
      std::vector<Row> prompt;
      add_rows(prompt, 0, 150);
      add_rows(prompt, 1, 40);
      expect_reads(prompt, step(prompt), kAll);
      EXPECT_EQ(all_stats().num_pages_there, 0) << "rows that come together read everything";
      std::int64_t there = 0;
      std::int64_t read = 0;
      for (int i = 0; i < 20; ++i) {
        std::vector<Row> rows;
        add_rows(rows, 0, 1);
        if (i % 3 != 0) add_rows(rows, 1, 1);
        expect_reads(rows, step(rows), num_pages);
        for (const auto& [head, count] : pages_in_reach(rows)) {
          there += count;
          read += std::min(count, num_pages);
        }
      }
      const ReadStats stats = all_stats();
      EXPECT_EQ(stats.num_pages_there, there);
      EXPECT_EQ(stats.num_pages_read, read);
      EXPECT_LT(read, there);
    }
  }
}

TEST_F(PageChoiceTest, AChunkOfOneRowARankReadsEverything) {
  const SomePages reader(2);
  start(4, &reader);
  std::vector<Row> prompt;
  add_rows(prompt, 0, 200);
  step(prompt);
  for (int i = 0; i < 5; ++i) {
    std::vector<Row> chunk;
    add_rows(chunk, 0, std::max(world().size(), 2));
    expect_reads(chunk, step(chunk), kAll);
  }
  EXPECT_EQ(all_stats().num_pages_there, 0);
}

TEST_F(PageChoiceTest, PagesBeyondAWindowDoNotCompete) {
  const SomePages reader(3);
  start(3, &reader);
  std::vector<Row> prompt;
  add_rows(prompt, 0, 400);
  step(prompt, 150);
  for (int i = 0; i < 10; ++i) {
    std::vector<Row> rows;
    add_rows(rows, 0, 1);
    expect_reads(rows, step(rows, 150), 3, 150);
  }
}

TEST_F(PageChoiceTest, ALayerThatIsReadWholeIs) {
  const SomePages reader(1);
  start(3, &reader, LayerId{0});
  std::vector<Row> prompt;
  add_rows(prompt, 0, 100);
  step(prompt);
  std::vector<Row> rows;
  add_rows(rows, 0, 1);
  expect_reads(rows, step(rows), kAll);
  EXPECT_EQ(all_stats().num_pages_there, 0);
}

TEST_F(PageChoiceTest, AllPagesAreTheFullCacheBitForBit) {
  for (const std::int64_t num_shards : {1, 9}) {
    std::vector<std::vector<float>> outputs[2];
    const SomePages all(kAll);
    for (std::size_t run = 0; run < 2; ++run) {
      random_.emplace(412);
      start(num_shards, run == 0 ? nullptr : &all);
      std::vector<Row> prompt;
      add_rows(prompt, 0, 700);
      outputs[run].push_back(step(prompt));
      for (int i = 0; i < 20; ++i) {
        std::vector<Row> rows;
        add_rows(rows, 0, 1);
        outputs[run].push_back(step(rows));
      }
    }
    EXPECT_EQ(outputs[0], outputs[1]);
    const ReadStats stats = all_stats();
    EXPECT_GT(stats.num_pages_there, 0);
    EXPECT_EQ(stats.num_pages_read, stats.num_pages_there);
    EXPECT_EQ(attention_->read_stats().bytes_not_read, 0u);
  }
}

TEST_F(PageChoiceTest, ExchangesNoMoreThanTheDocumentedBytes) {
  constexpr std::int64_t kPages = 5;
  std::array<std::uint64_t, 2> bytes{};
  const SomePages some(kPages);
  for (std::size_t run = 0; run < 2; ++run) {
    random_.emplace(413);
    start(9, run == 0 ? nullptr : &some);
    std::vector<Row> prompt;
    add_rows(prompt, 0, 900);
    step(prompt);
    const std::uint64_t before = world().stats().bytes_sent;
    for (int i = 0; i < 10; ++i) {
      std::vector<Row> rows;
      add_rows(rows, 0, 1);
      step(rows);
    }
    bytes[run] = world().stats().bytes_sent - before;
  }
  const std::size_t holders = map_->ranks_with_shards(LayerId{1}).size();
  const std::uint64_t most =
      cache_->page_bytes() > 0 ? 10 * (holders - 1) * kKvHeads * (4 + 8 * kPages) : 0;
  EXPECT_LE(bytes[1] - bytes[0], most);
  EXPECT_EQ(bytes[1] > bytes[0], most > 0);
}

TEST_F(PageChoiceTest, WhatIsReadOfTheAttentionIsMeasuredOnOneRank) {
  const SomePages all(kAll, true);
  const SomePages three(3, true);
  if (world().size() > 1) {
    EXPECT_THROW(start(9, &three), InvalidArgument);
    return;
  }
  std::vector<double> shares, recalls;
  for (const PageReader* reader : {&three, &all}) {
    start(4, reader);
    std::vector<Row> prompt;
    add_rows(prompt, 0, 300);
    step(prompt);
    std::vector<Row> rows;
    add_rows(rows, 0, 1);
    const std::vector<float> o = step(rows);
    const ReadStats stats = attention_->read_stats();
    ASSERT_EQ(stats.num_measured, kHeads);
    shares.push_back(stats.attention_read / static_cast<double>(kHeads));
    double expected = 0;
    const double scale = 1.0 / std::sqrt(static_cast<double>(kD));
    for (std::size_t head = 0; head < std::size_t{kHeads}; ++head) {
      const auto q = std::span(rows[0].q).subspan(head * kD, std::size_t{kD});
      const auto lse = [&](std::int64_t num_pages) {
        return reference::attend(
                   q, scale, rows[0].position, std::nullopt,
                   slots_of(best_pages(rows[0], head / kGroup, num_pages, std::nullopt)))
            .state.lse;
      };
      expected += std::exp(lse(reader == &all ? kAll : 3) - lse(kAll)) / kHeads;
    }
    EXPECT_NEAR(shares.back(), expected, 1e-5);

    std::int64_t best = 0;
    std::int64_t read = 0;
    for (std::size_t h = 0; h < std::size_t{kKvHeads}; ++h) {
      const std::int64_t count = reader == &all ? kAll : 3;
      const auto chosen = best_pages(rows[0], h, count, std::nullopt);
      for (const Page* page : best_pages(rows[0], h, count, std::nullopt, largest_logit)) {
        ++best;
        if (std::ranges::find(chosen, page) != chosen.end()) ++read;
      }
    }
    EXPECT_EQ(stats.num_top_pages, best);
    EXPECT_EQ(stats.num_top_pages_read, read);
    recalls.push_back(stats.recall().value_or(-1));
  }
  EXPECT_LT(shares[0], 0.95);
  EXPECT_EQ(shares[1], 1.0);
  EXPECT_LT(recalls[0], 1.0);
  EXPECT_EQ(recalls[1], 1.0);
}

}  // namespace
}  // namespace pikv
