// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compression/tables.hpp"
#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kDim = 64;
constexpr std::int32_t kPageSlots = 16;
constexpr StreamId kStream{SequenceId{7}, LayerId{0}, HeadId{0}, ShardId{0}};

class TierSlots : public testing::Test {
 protected:
  void make(const std::string& codec, std::optional<std::size_t> budget_bytes = {}) {
    codec_ = make_policy("codec", compression::codecs(), codec);
    cache_ = std::make_unique<KvCache>(exec_,
                                       KvCacheConfig{.num_kv_heads = 1,
                                                     .head_dim = kDim,
                                                     .page_slots = kPageSlots,
                                                     .budget_bytes = budget_bytes},
                                       map_, 0, *codec_);
    cache_->add_sequence(kStream.sequence);
  }

  /// The next `count` positions.
  AppendResult append(std::int64_t count) {
    const auto n = static_cast<std::size_t>(count);
    const std::vector<float> keys = random_.normals(count * kDim);
    const std::vector<float> values = random_.normals(count * kDim);
    std::vector<Position> positions(n);
    std::iota(positions.begin(), positions.end(), static_cast<Position>(keys_.size()) / kDim);
    const std::vector<SequenceId> sequences(n, kStream.sequence);
    const std::vector<ShardId> shards(n, kStream.shard);
    const AppendResult result = cache_->append({.layer = kStream.layer,
                                                .sequences = sequences,
                                                .positions = positions,
                                                .shards = shards,
                                                .keys = {keys.data(), {count, 1, kDim}},
                                                .values = {values.data(), {count, 1, kDim}}});
    if (result == AppendResult::kAppended) keys_.insert(keys_.end(), keys.begin(), keys.end());
    cache_->check_integrity();
    return result;
  }

  /// A slot's worth is a function of its position in no order.
  static float worth(Position position) {
    return std::fmod(0.37f * static_cast<float>(position), 1.0f);
  }

  void put_in_tiers() {
    std::vector<float> worths;
    for (const Position position : cache_->positions(kStream)) worths.push_back(worth(position));
    cache_->tier_slots(kStream, worths);
    cache_->check_integrity();
  }

  [[nodiscard]] kernels::StreamView view() const {
    std::vector<kernels::StreamView> views;
    (void)cache_->collect_streams(kStream.layer, kStream.sequence, views);
    return views.at(0);
  }

  [[nodiscard]] std::vector<int> forms() const {
    const kernels::StreamView view = TierSlots::view();
    return {view.sealed_forms, view.sealed_forms + view.num_sealed_pages};
  }

  /// Positions of a page, by its number in the stream.
  [[nodiscard]] std::vector<Position> positions(std::int32_t page) const {
    const kernels::StreamView view = TierSlots::view();
    const Position* first = page < view.num_sealed_pages
                                ? positions_in(cache_->sealed_layouts().data[view.form_of(page)],
                                               view.sealed_pages[page])
                                : positions_in(cache_->open_layout(), view.open_page);
    std::vector<Position> result(first, first + kPageSlots);
    std::erase(result, kNoPosition);
    return result;
  }

  /// Mean square difference of the keys of a page and what was appended.
  [[nodiscard]] double error(std::int32_t page) const {
    KvCache::HeadContents contents;
    cache_->read_slots(kStream.sequence, kStream.layer, kStream.kv_head, true, false, contents);
    const auto first = static_cast<std::size_t>(page) * kPageSlots;
    double sum = 0;
    for (std::size_t i = first; i < first + kPageSlots; ++i) {
      const auto at = static_cast<std::size_t>(contents.positions[i]) * kDim;
      for (std::size_t d = 0; d < kDim; ++d) {
        const double difference =
            static_cast<double>(contents.keys[i * kDim + d]) - static_cast<double>(keys_[at + d]);
        sum += difference * difference;
      }
    }
    return sum / (kPageSlots * kDim);
  }

  Random random_{2026};
  Exec exec_ = Exec::cpu(1);
  ShardMap map_{1, 1, 1, {0}};
  std::unique_ptr<const Codec> codec_;
  std::unique_ptr<KvCache> cache_;
  std::vector<float> keys_;  // [n, D]
};

TEST_F(TierSlots, FullPagesHoldTheSlotsByTheirWorthAndTheNewestStayExact) {
  make("pyramid:full=0.25,int8=0.25,int4=0.25,int2=0.25");
  ASSERT_EQ(append(8 * kPageSlots + 5), AppendResult::kAppended);
  EXPECT_EQ(forms(), std::vector<int>(8, 0)) << "pages fill in the best form";
  const std::size_t before = cache_->page_bytes();
  put_in_tiers();
  EXPECT_EQ(forms(), (std::vector<int>{0, 0, 1, 1, 2, 2, 3, 3}));
  std::size_t sealed_bytes = 0;
  for (const int form : forms()) sealed_bytes += cache_->sealed_layouts().data[form].page_bytes();
  const std::size_t open_bytes = cache_->open_layout().page_bytes();
  EXPECT_EQ(cache_->page_bytes(), sealed_bytes + open_bytes);
  EXPECT_LT(1.9 * static_cast<double>(sealed_bytes), static_cast<double>(before - open_bytes));
  float last = 1;
  for (std::int32_t page = 0; page < 8; ++page) {
    for (const Position position : positions(page)) {
      EXPECT_LE(worth(position), last);
      last = worth(position);
    }
  }
  EXPECT_EQ(positions(8), (std::vector<Position>{128, 129, 130, 131, 132}));
  for (std::int32_t page = 2; page < 8; page += 2) {
    EXPECT_GT(error(page), 4 * error(page - 2)) << "each tier loses more than the one before";
  }
}

TEST_F(TierSlots, AreSetUpAgainOnlyWhenEnoughIsNew) {
  make("pyramid:int8=0.5,int2=0.5");
  ASSERT_EQ(append(20 * kPageSlots), AppendResult::kAppended);
  put_in_tiers();
  const std::vector<int> tiered = forms();
  ASSERT_EQ(append(kPageSlots), AppendResult::kAppended);
  put_in_tiers();
  std::vector<int> one_more = tiered;
  one_more.push_back(0);
  EXPECT_EQ(forms(), one_more) << "one new page of 21";
  ASSERT_EQ(append(kPageSlots), AppendResult::kAppended);
  put_in_tiers();
  EXPECT_EQ(std::ranges::count(forms(), 1), 11) << "two of 22";
}

TEST_F(TierSlots, ASlotThatStaysInItsTierKeepsItsNumbers) {
  make("pyramid:int8=0.5,int4=0.5");
  ASSERT_EQ(append(4 * kPageSlots), AppendResult::kAppended);
  put_in_tiers();
  const double before = error(0);
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(append(2 * kPageSlots), AppendResult::kAppended);
    put_in_tiers();
  }
  EXPECT_LT(error(0), 1.2 * before);
}

TEST_F(TierSlots, EvictionLeavesTheNewestPageInItsForm) {
  make("pyramid:full=0.5,int2=0.5");
  ASSERT_EQ(append(8 * kPageSlots), AppendResult::kAppended);
  put_in_tiers();
  ASSERT_EQ(append(2 * kPageSlots), AppendResult::kAppended);
  std::vector<std::int32_t> evict;
  for (std::int32_t i = 0; i < 2 * kPageSlots; ++i) evict.push_back(3 * i);
  cache_->evict_slots(kStream, evict);
  cache_->check_integrity();
  ASSERT_EQ(forms().size(), 8u);
  EXPECT_EQ(forms()[6], 0);
  EXPECT_EQ(forms()[7], 0);
  EXPECT_EQ(positions(7).back(), 10 * kPageSlots - 1);
}

TEST_F(TierSlots, AFullPoolLeavesPagesAsTheyAre) {
  make("pyramid:full=0.5,int2=0.5", std::size_t{256} * 1024);
  while (append(kPageSlots) == AppendResult::kAppended) {
  }
  const std::vector<int> before = forms();
  put_in_tiers();
  EXPECT_EQ(forms(), before);
  std::vector<std::int32_t> half(forms().size() / 2 * kPageSlots);
  std::iota(half.begin(), half.end(), 0);
  EXPECT_NO_THROW(cache_->evict_slots(kStream, half));
  EXPECT_EQ(append(kPageSlots), AppendResult::kAppended);
}

TEST_F(TierSlots, WhatCannotBeIsRefused) {
  make("int8");
  ASSERT_EQ(append(20), AppendResult::kAppended);
  EXPECT_THROW(put_in_tiers(), InvalidArgument);
  make("pyramid");
  keys_.clear();
  ASSERT_EQ(append(20), AppendResult::kAppended);
  EXPECT_THROW(cache_->tier_slots(kStream, std::vector<float>(19)), InvalidArgument);
  for (const char* bad : {"pyramid:full=0.5", "pyramid:full=0.5,int8=0.6", "pyramid:int4=1.5",
                          "pyramid:int3=1", "pyramid:channels=17,int4=1"}) {
    EXPECT_THROW(make(bad), InvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace pikv
