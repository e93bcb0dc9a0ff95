// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/report.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace pikv::launch {
namespace {

const std::vector<SweepCell> kCells = {
    {.scheduler = "full", .budget = "1.0", .mode = Mode::kAgnostic},
    {.scheduler = "snapkv:window=32,kernel=5", .budget = "0.25", .mode = Mode::kAware}};

std::vector<CellResult> results() {
  return {{.groups = {{"g", {1, 1, 1, 1, 1, 1, 1, 1}}, {"says \"h\"", {0.5, 0.25}}},
           .kept = 1,
           .kv_bytes = 2048,
           .scheduling_seconds = 0,
           .seconds = 1.5},
          {.groups = {{"g", {0, 1, 0, 1}}, {"says \"h\"", {0, 0}}},
           .kept = 0.25,
           .kv_bytes = 0,
           .pages_read = 0.125,
           .attention_read = 0.75,
           .top_pages_read = 0.5,
           .hit_rate = 0.96875,
           .scheduling_seconds = 0.5,
           .seconds = 2}};
}

TEST(Report, CsvHasALineForEachGroupOfEachCell) {
  const std::string head =
      "task,mode,scheduler,budget,codec,kept,kv_bytes,group,measure,total,correct,value,low_95,"
      "high_95,"
      "scheduling_seconds,seconds,pages_read,attention_read,"
      "top_pages_read,hit_rate\n";
  EXPECT_TRUE(to_csv("niah:keys=4,queries=2", kCells, results())
                  .starts_with(head + "\"niah:keys=4,queries=2\",agnostic,full,"));
  const std::string text = to_csv("t", kCells, results());
  EXPECT_NE(text.find("\nt,agnostic,full,1.0,none,1,2048,g,score,8,8,1,0.675"), std::string::npos)
      << text;
  EXPECT_NE(text.find(",\"says \"\"h\"\"\",score,2,0.75,0.375,"), std::string::npos) << text;
  EXPECT_NE(text.find("\nt,aware,\"snapkv:window=32,kernel=5\",0.25,none,0.25,,g,score,4,2,0.5,"),
            std::string::npos)
      << "unknown bytes are an empty field\n"
      << text;
  EXPECT_NE(text.find(",2,0.125,0.75,0.5,0.96875\n"), std::string::npos) << "what decode read\n"
                                                                         << text;
  EXPECT_NE(text.find(",1.5,1,,,\n"), std::string::npos) << "what was not measured\n" << text;
  EXPECT_EQ(std::ranges::count(text, '\n'), 5);
}

TEST(Report, TheTableHasALineForEachCell) {
  const std::string text = to_table(kCells, results());
  EXPECT_EQ(std::ranges::count(text, '\n'), 3);
  for (const char* part :
       {"KV bytes", "2.0 KiB", "8/8 (100 +- 16 %)", "2/4 (50 +- 35 %)", "0.75/2 (38 +- 24 %)",
        "snapkv:window=32,kernel=5", "0.2500          - 0.1250 (75.00 %)"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
}

TEST(Report, HitRatesAreAColumnWhereOneWasMeasured) {
  std::vector<CellResult> some = results();
  const std::string text = to_table(kCells, some);
  EXPECT_NE(text.find(" hit rate "), std::string::npos) << text;
  EXPECT_NE(text.find(" (75.00 %)   0.9688 "), std::string::npos) << text;
  some[1].hit_rate.reset();
  EXPECT_EQ(to_table(kCells, some).find("hit rate"), std::string::npos);
}

TEST(Report, OtherMeasuresAreGivenWithTheirIntervals) {
  const std::vector<SweepCell> cells = {kCells[0]};
  const std::vector<CellResult> results = {
      {.groups = {{"p", {2.0, 3.0}, Measure::kPerplexity}, {"k", {0, 0}, Measure::kKl}}}};
  const std::string table = to_table(cells, results);
  EXPECT_NE(table.find("12.18 (4.572 to 32.46)"), std::string::npos) << table;
  EXPECT_NE(table.find("0 (0 to 0)"), std::string::npos) << table;
  const std::string csv = to_csv("t", cells, results);
  EXPECT_NE(csv.find(",p,perplexity,2,,12.18"), std::string::npos) << csv;
  EXPECT_NE(csv.find(",k,kl,2,,0,0,0,"), std::string::npos) << csv;
}

}  // namespace
}  // namespace pikv::launch
