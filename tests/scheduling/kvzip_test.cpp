// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The options of kvzip, on a small mixture (qwen3_moe: 3 layers, 2 KV heads).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"
#include "scheduling/head_table.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

using testing_support::TempFolder;

constexpr std::int64_t kLength = 100;

class KvZip : public testing::Test {
 protected:
  KvZip() {
    options_.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options_.num_threads = 1;
    options_.chunk_tokens = 16;
    options_.budget_text = "0.5";
    testing_support::Random random(221);
    for (std::int64_t i = 0; i < kLength; ++i) {
      request_.prompt.push_back(static_cast<TokenId>(random.integer(3, 383)));
    }
  }

  /// A run of one request under these options.
  [[nodiscard]] std::unique_ptr<launch::Runtime> run(const std::string& scheduler) {
    options_.scheduler = scheduler;
    auto runtime = std::make_unique<launch::Runtime>(*comm_, options_);
    (void)runtime->engine().run({&request_, 1});
    return runtime;
  }
  [[nodiscard]] static std::vector<std::size_t> kept(const launch::Runtime& runtime) {
    std::vector<std::size_t> counts;
    for (const auto& evicted : runtime.scheduling().last_evicted()) {
      counts.push_back(kLength - evicted.size());
    }
    return counts;
  }

  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
  Request request_{.prompt = {}, .max_tokens = 2};
};

TEST_F(KvZip, ScoresAreAttentionWeightsOfAllButTheSinks) {
  const auto runtime = run("kvzip:chunk=40,sinks=4");
  for (const HeadScores& head : runtime->scheduling().last_scores().heads) {
    ASSERT_EQ(head.positions.size(), kLength);
    for (std::size_t i = 0; i < head.scores.size(); ++i) {
      if (head.positions[i] < 4) {
        EXPECT_EQ(head.scores[i], 0.0f);
      } else {
        EXPECT_GT(head.scores[i], 0.0f) << "position " << head.positions[i] << " was read again";
        EXPECT_LE(head.scores[i], 1.0f);
      }
    }
  }
}

// More rows than are scored at once, against the definition.
TEST(KvZipScores, AreTheLargestWeightsOfTheSubsampledSoftmax) {
  constexpr std::int64_t kSlots = 700;
  constexpr std::int64_t kHeads = 2;  // one KV head
  constexpr std::int64_t kDim = 8;
  constexpr RereadChunk kChunk{.begin = 50, .end = 120, .first_row = 400};
  constexpr std::int64_t kRows = kSlots - kChunk.first_row;
  testing_support::Random random(222);
  const std::vector<float> keys = random.normals(kSlots * kDim);
  const std::vector<float> queries = random.normals(kRows * kHeads * kDim);
  std::vector<Position> positions(kSlots);
  std::iota(positions.begin(), positions.end(), Position{0});
  const HeadSlots head{.positions = positions,
                       .keys = {keys.data(), {kSlots, kDim}},
                       .values = {nullptr, {0, kDim}}};
  std::vector<std::vector<float>> scores(1, std::vector<float>(kSlots));
  Exec exec = Exec::cpu(1);
  make_policy("scheduler", scheduling::schedulers(), "kvzip:sinks=3")
      ->score_reread(exec,
                     {.sequence = SequenceId{0},
                      .layer = LayerId{0},
                      .next_position = kSlots,
                      .num_context = kChunk.first_row,
                      .heads = std::span(&head, 1),
                      .budget = {},
                      .queries = {queries.data(), {kRows, kHeads, kDim}},
                      .query_positions = std::span(positions).last(kRows)},
                     kChunk, scores);

  std::vector<double> expected(kSlots);
  for (std::int64_t r = 0; r < kRows * kHeads; ++r) {
    const Position own = kChunk.first_row + static_cast<Position>(r / kHeads);
    std::vector<double> weights(kSlots);
    double total = 0;
    for (Position p = 0; p <= own; ++p) {
      const bool is_seen = p < 3 || (p >= kChunk.begin && p < kChunk.end) || p >= kChunk.first_row;
      if (!is_seen) continue;
      double dot = 0;
      for (std::int64_t d = 0; d < kDim; ++d) {
        dot += static_cast<double>(queries[static_cast<std::size_t>(r * kDim + d)]) *
               static_cast<double>(keys[static_cast<std::size_t>(p * kDim + d)]);
      }
      total += weights[static_cast<std::size_t>(p)] =
          std::exp(dot / std::sqrt(static_cast<double>(kDim)));
    }
    for (Position p = kChunk.begin; p < kChunk.end; ++p) {
      const auto i = static_cast<std::size_t>(p);
      expected[i] = std::max(expected[i], weights[i] / total);
    }
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(scores[0][i]), expected[i], 1e-6) << "position " << i;
  }
}

TEST_F(KvZip, LevelsSpreadTheSameBudget) {
  EXPECT_EQ(kept(*run("kvzip:level=uniform")), std::vector<std::size_t>(6, kLength / 2));
  for (const char* level : {"pair", "head"}) {
    const std::vector<std::size_t> counts = kept(*run(std::string("kvzip:level=") + level));
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::size_t{0}), 6 * kLength / 2);
    EXPECT_NE(counts, std::vector<std::size_t>(6, kLength / 2));
  }
}

TEST_F(KvZip, HeadsThatAreNotWholeKeepTheirEndsOneInBetween) {
  const std::vector<std::size_t> counts = kept(*run("kvzip:level=head,sinks=3,recents=7"));
  EXPECT_LE(std::ranges::count_if(counts, [](auto n) { return n != 10 && n != kLength; }), 1);
  EXPECT_GE(std::ranges::count(counts, std::size_t{kLength}), 2);
}

TEST_F(KvZip, ASavedTableOfHeadsNeedsNoSecondReading) {
  const TempFolder folder;
  const std::string path = (folder.path() / "heads").string();
  const auto saving = run("kvzip:level=head,sinks=3,recents=7,save=" + path);
  saving->save_head_table();
  EXPECT_GT(saving->engine().stats().num_reread_tokens, kLength - 1);
  EXPECT_EQ(scheduling::HeadTable::from_file(path, 0, 1).num_layers(), 3);
  const auto loaded = run("kvzip:level=head,sinks=3,recents=7,file=" + path);
  EXPECT_EQ(loaded->engine().stats().num_reread_tokens, 0);
  EXPECT_EQ(kept(*loaded), kept(*saving));
}

TEST_F(KvZip, TheBestSlotOfAllContextsDecidesAboutAHead) {
  const auto runtime = run("kvzip:level=head,save=not_written");
  const std::vector<float> first = runtime->scheduling().largest_scores();
  std::ranges::reverse(request_.prompt);
  (void)runtime->engine().run({&request_, 1});
  const auto& heads = runtime->scheduling().last_scores().heads;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    EXPECT_EQ(runtime->scheduling().largest_scores()[i],
              std::max(first[i], std::ranges::max(heads[i].scores)));
  }
}

TEST_F(KvZip, RefusesOptionsThatSayNothing) {
  for (const char* options : {"chunk=0", "overlap=-1", "level=layer", "file=x", "recents=4",
                              "level=head,sinks=0,recents=0,file=x", "level=head,file=absent"}) {
    EXPECT_ANY_THROW(
        (void)make_policy("scheduler", scheduling::schedulers(), std::string("kvzip:") + options))
        << options;
  }
}

}  // namespace
}  // namespace pikv
