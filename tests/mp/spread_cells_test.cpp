// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Cells of a sweep over ranks: each runs once, and what was finished is kept when one fails.
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "core/comm/agreement.hpp"
#include "launch/eval/spread.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv::launch {
namespace {

using std::chrono::milliseconds;

std::vector<std::size_t> first_cells(std::size_t count) {
  std::vector<std::size_t> cells(count);
  std::iota(cells.begin(), cells.end(), std::size_t{0});
  return cells;
}

CellResult result_of(std::size_t cell_idx) {
  const auto number = static_cast<double>(cell_idx);
  return {.groups = {{"g", {number / 8, 1.0 / 3}}, {"h", {}}},
          .kept = 1 / (number + 3),
          .kv_bytes = number + 0.5,
          .seconds = number};
}

TEST(SpreadCells, EachCellRunsOnceAndArrivesUnchanged) {
  for (const std::size_t num_cells : {0u, 1u, 3u, 11u}) {
    std::vector<std::int64_t> num_runs(num_cells);
    std::vector<int> num_taken(num_cells);
    spread_cells(
        world(), first_cells(num_cells),
        [&](std::size_t cell_idx, const std::stop_token&) {
          ++num_runs[cell_idx];
          // The first takes as long as all others together.
          std::this_thread::sleep_for(milliseconds(cell_idx == 0 ? 400 : 20));
          return result_of(cell_idx);
        },
        [&](std::size_t cell_idx, CellResult result) {
          EXPECT_EQ(world().rank(), 0);
          ++num_taken[cell_idx];
          const CellResult sent = result_of(cell_idx);
          EXPECT_EQ(result.kept, sent.kept);
          EXPECT_EQ(result.kv_bytes, sent.kv_bytes);
          EXPECT_EQ(result.seconds, sent.seconds);
          ASSERT_EQ(result.groups.size(), 2u);
          EXPECT_EQ(result.groups[0].scores, sent.groups[0].scores);
          EXPECT_TRUE(result.groups[1].scores.empty());
        });
    const std::int64_t mine = std::accumulate(num_runs.begin(), num_runs.end(), std::int64_t{0});
    world().all_reduce(std::span<std::int64_t>(num_runs), ReduceOp::kSum);
    EXPECT_EQ(num_runs, std::vector<std::int64_t>(num_cells, 1));
    EXPECT_EQ(num_taken, std::vector<int>(num_cells, world().rank() == 0 ? 1 : 0));
    if (num_cells == 11) {
      EXPECT_GT(mine, 0) << "no rank is idle";
    }
  }
}

TEST(SpreadCells, OnlyThePendingOnesRun) {
  std::set<std::size_t> taken;
  const std::vector<std::size_t> pending = {7, 2, 9};
  spread_cells(
      world(), pending,
      [&](std::size_t cell_idx, const std::stop_token&) { return result_of(cell_idx); },
      [&](std::size_t cell_idx, const CellResult&) { taken.insert(cell_idx); });
  if (world().rank() == 0) {
    EXPECT_EQ(taken, (std::set<std::size_t>{2, 7, 9}));
  }
}

TEST(SpreadCells, AFailureEndsAllRanksAndLosesNothing) {
  std::set<std::size_t> taken;
  std::string message;
  const auto start = std::chrono::steady_clock::now();
  try {
    spread_cells(
        world(), first_cells(40),
        [&](std::size_t cell_idx, const std::stop_token& stop) -> CellResult {
          if (cell_idx == 5) throw InvalidArgument("cell five is broken");
          // The last cells wait for the stop that the failure brings; without it, for a minute.
          for (int i = 0; cell_idx > 5 && i < 6000 && !stop.stop_requested(); ++i) {
            std::this_thread::sleep_for(milliseconds(10));
          }
          return result_of(cell_idx);
        },
        [&](std::size_t cell_idx, const CellResult&) { taken.insert(cell_idx); });
  } catch (const AgreedError& error) {
    message = error.what();
  }
  EXPECT_TRUE(message.starts_with("cell five is broken")) << message;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  if (world().rank() == 0) {
    EXPECT_EQ(taken, (std::set<std::size_t>{0, 1, 2, 3, 4}));
  }
}

TEST(SpreadCells, AResultThatCannotBeTakenEndsAllRanks) {
  const auto run = [&] {
    spread_cells(
        world(), first_cells(9),
        [&](std::size_t cell_idx, const std::stop_token&) { return result_of(cell_idx); },
        [&](std::size_t, const CellResult&) { throw BadFile("the disk is full"); });
  };
  EXPECT_THROW(run(), AgreedError);
}

}  // namespace
}  // namespace pikv::launch
