// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "core/policy/page_reader.hpp"
#include "kernels/common/error.hpp"
#include "scheduling/tables.hpp"

namespace pikv {
namespace {

std::unique_ptr<const Scheduler> make(const std::string& text) {
  return make_policy("scheduler", scheduling::schedulers(), text);
}

TEST(QuestPages, AreTheBudgetInWholePagesButAtLeastThree) {
  const auto quest = make("quest");
  const PageReader& reader = *quest->page_reader();
  EXPECT_EQ(reader.num_pages(4000, 16, {.slots = 512}), 32);
  EXPECT_EQ(reader.num_pages(4000, 16, {.slots = 527}), 32);
  EXPECT_EQ(reader.num_pages(4000, 64, {.slots = 512}), 8);
  EXPECT_EQ(reader.num_pages(4000, 16, {.slots = 1}), 3);
  EXPECT_EQ(reader.num_pages(1600, 16, {.fraction = 0.1}), 10);
  EXPECT_EQ(reader.num_pages(100, 16, {.fraction = 0.1}), 3);
}

TEST(QuestPages, AreAllOfThemUnderABudgetOfEverything) {
  const auto quest = make("quest");
  const PageReader& reader = *quest->page_reader();
  // As many pages as tokens is the most that there can be, with a shard for each token.
  EXPECT_EQ(reader.num_pages(100, 16, {.fraction = 1.0}), 100);
  EXPECT_EQ(reader.num_pages(100, 16, {.slots = 100}), 100);
  EXPECT_EQ(reader.num_pages(100, 16, {.slots = 99}), 6);
}

TEST(QuestPages, OfTheFirstLayersAreAllRead) {
  const auto quest = make("quest");
  EXPECT_TRUE(quest->page_reader()->reads_all(LayerId{1}));
  EXPECT_FALSE(quest->page_reader()->reads_all(LayerId{2}));
  EXPECT_FALSE(make("quest:dense_layers=0")->page_reader()->reads_all(LayerId{0}));
}

TEST(QuestPages, AreChosenForTheGroupByTheOption) {
  EXPECT_EQ(make("quest")->page_reader()->group_reduce(), kernels::GroupReduce::kMax);
  EXPECT_EQ(make("quest:group=mean")->page_reader()->group_reduce(), kernels::GroupReduce::kMean);
  EXPECT_THROW((void)make("quest:group=sum"), InvalidArgument);
}

TEST(QuestPages, NeedTheirBoundsKept) {
  EXPECT_TRUE(make("quest")->needs().key_bounds);
  EXPECT_FALSE(make("full")->needs().key_bounds);
  EXPECT_EQ(make("full")->page_reader(), nullptr);
}

}  // namespace
}  // namespace pikv
