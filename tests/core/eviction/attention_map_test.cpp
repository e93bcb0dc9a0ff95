// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/attention_map.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <map>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

class AttentionMapTest : public testing::TestWithParam<std::string> {
 protected:
  AttentionMapTest() {
    options_.model = fs::path(PIKV_TEST_DATA_DIR) / GetParam();
    options_.num_threads = 1;
    options_.scheduler = "random:when=decode,every=1";  // leaves holes
    options_.budget_text = "41";
    options_.observed_queries = 12;
    for (TokenId token = 3; token < 50; ++token) request_.prompt.push_back(token);
    request_.max_tokens = 6;
  }

  [[nodiscard]] AttentionMap map(const AttentionMapShape& shape) {
    return map_attention({.exec = runtime_->host(),
                          .model = runtime_->model(),
                          .cache = runtime_->cache(),
                          .tap = runtime_->tap(),
                          .comm = *comm_},
                         SequenceId{0}, next_, shape);
  }

  /// weights[query][position] by the definition, in double precision.
  using Weights = std::map<Position, std::map<Position, double>>;
  [[nodiscard]] Weights reference(std::size_t layer, std::size_t kv_head) {
    const ModelConfig& model = runtime_->model();
    const std::int64_t group = model.num_heads / model.num_kv_heads;
    const std::int64_t dim = model.head_dim;
    KvCache::HeadContents slots;
    runtime_->cache().read_slots(SequenceId{0}, id_from<LayerId>(layer), id_from<HeadId>(kv_head),
                                 true, false, slots);
    AttentionTap::Rows rows;
    runtime_->tap().read_rows(SequenceId{0}, id_from<LayerId>(layer), 0, rows);
    Weights weights;
    for (std::size_t r = 0; r < rows.positions.size(); ++r) {
      const Position own = rows.positions[r];
      for (std::int64_t g = 0; g < group; ++g) {
        const float* q = rows.queries.data() + (static_cast<std::int64_t>(r) * model.num_heads +
                                                static_cast<std::int64_t>(kv_head) * group + g) *
                                                   dim;
        std::map<Position, double> row;
        double total = 0;
        for (std::size_t i = 0; i < slots.positions.size(); ++i) {
          const Position at = slots.positions[i];
          const auto& window = model.windows[layer];
          if (at > own || (window && at <= own - *window)) continue;
          double dot = 0;
          for (std::int64_t d = 0; d < dim; ++d) {
            dot += static_cast<double>(q[d]) *
                   static_cast<double>(
                       slots.keys[i * static_cast<std::size_t>(dim) + static_cast<std::size_t>(d)]);
          }
          total += row[at] = std::exp(dot / std::sqrt(static_cast<double>(dim)));
        }
        for (const auto& [at, weight] : row) {
          weights[own][at] += weight / total / static_cast<double>(group);
        }
      }
    }
    return weights;
  }

  void run() {
    runtime_.emplace(*comm_, options_);
    runtime_->engine().keep_finished_sequences(true);
    (void)runtime_->engine().run({&request_, 1});
    next_ = static_cast<Position>(request_.prompt.size()) + 5;
  }

  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
  Request request_{};
  std::optional<launch::Runtime> runtime_;
  Position next_ = 0;
};

TEST_P(AttentionMapTest, IsTheSoftmaxOverTheSlotsInRowsAndBins) {
  run();
  const AttentionMap map = this->map({.num_queries = 11, .max_rows = 4, .max_bins = 10});
  EXPECT_EQ(map.num_positions, 52);
  EXPECT_EQ(map.bin_positions, 6);
  EXPECT_EQ(map.num_bins(), 9);
  EXPECT_EQ(map.num_queries, 11);
  ASSERT_EQ(map.num_rows, 4);
  const auto num_kv_heads = static_cast<std::size_t>(map.num_kv_heads);
  ASSERT_EQ(map.heads.size(),
            static_cast<std::size_t>(runtime_->model().num_layers) * num_kv_heads);
  constexpr std::array kRowOfQuery = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3};
  constexpr std::array kQueriesOfRow = {3, 3, 3, 2};
  for (std::size_t h = 0; h < map.heads.size(); ++h) {
    SCOPED_TRACE(testing::Message() << "head " << h);
    const AttentionMap::Head& head = map.heads[h];
    EXPECT_EQ(head.positions.size(), 42u) << "the scheduler runs no more behind the last token";
    const Weights expected = reference(h / num_kv_heads, h % num_kv_heads);
    std::map<Position, double> sums;
    std::vector<double> cells(4 * 9);
    for (std::size_t q = 0; q < 11; ++q) {
      const auto row = expected.find(41 + static_cast<Position>(q));
      ASSERT_NE(row, expected.end());
      for (const auto& [at, weight] : row->second) {
        sums[at] += weight / 11;
        cells[static_cast<std::size_t>(kRowOfQuery[q] * 9 + at / 6)] +=
            weight / kQueriesOfRow[static_cast<std::size_t>(kRowOfQuery[q])];
      }
    }
    for (std::size_t i = 0; i < head.positions.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(head.weights[i]), sums[head.positions[i]], 1e-6)
          << "position " << head.positions[i];
    }
    ASSERT_EQ(head.cells.size(), cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(head.cells[i]), cells[i], 1e-6) << "cell " << i;
    }
  }
}

TEST_P(AttentionMapTest, HasNoMoreRowsAndBinsThanQueriesAndPositions) {
  request_.prompt.resize(3);
  options_.scheduler = "full";
  run();
  const AttentionMap map = this->map({.num_queries = 12, .max_rows = 50, .max_bins = 100});
  EXPECT_EQ(map.num_queries, 8);
  EXPECT_EQ(map.num_rows, 8);
  EXPECT_EQ(map.num_bins(), 8);
  for (const AttentionMap::Head& head : map.heads) {
    for (std::size_t row = 0; row < 8; ++row) {
      double sum = 0;
      for (std::size_t bin = 0; bin < 8; ++bin) {
        sum += static_cast<double>(head.cells[row * 8 + bin]);
        if (bin <= row) continue;
        EXPECT_EQ(head.cells[row * 8 + bin], 0.0f) << "nobody reads ahead";
      }
      EXPECT_NEAR(sum, 1, 1e-6);
    }
  }
  EXPECT_THROW((void)this->map({.num_queries = 12, .max_rows = 0, .max_bins = 1}), InvalidArgument);
}

TEST_P(AttentionMapTest, NobodyRecordsQueriesThatNobodyWants) {
  options_.scheduler = "full";
  run();
  EXPECT_TRUE(runtime_->tap().wants_rows());
  options_.observed_queries = 0;
  run();
  EXPECT_FALSE(runtime_->tap().wants_rows());
}

INSTANTIATE_TEST_SUITE_P(Families, AttentionMapTest,
                         testing::Values("families/qwen3_moe", "families_extra/mistral_window"),
                         [](const auto& info) {
                           return info.param.substr(info.param.find('/') + 1);
                         });

/// Writes down what it is told.
class Log final : public ContextObserver {
 public:
  void on_computed(const ScheduledSequence& sequence) override { add("computed", sequence); }
  void on_scheduled(const ScheduledSequence& sequence) override { add("scheduled", sequence); }

  std::vector<std::string> lines;

 private:
  void add(std::string_view what, const ScheduledSequence& sequence) {
    lines.push_back(concat(what, ' ', index(sequence.id), " at ", sequence.num_computed, " of ",
                           sequence.num_context));
  }
};

TEST(ContextObserver, SeesEachContextOnceAndTheRunAtItsEnd) {
  const auto comm = make_single_communicator();
  launch::RuntimeOptions options;
  options.model = fs::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
  options.num_threads = 1;
  options.chunk_tokens = 16;
  options.budget_text = "10";
  const auto lines = [&](const std::string& scheduler) {
    options.scheduler = scheduler;
    launch::Runtime runtime(*comm, options);
    std::vector<Request> requests(3);
    for (Request& request : requests) {
      for (TokenId token = 3; token < 40; ++token) request.prompt.push_back(token);
      request.max_tokens = 4;
      request.context_tokens = 30;
    }
    requests[1].start = {.request_idx = 0};
    requests[2].prompt[0] = 7;
    Log log;
    runtime.engine().observe_contexts(&log);
    (void)runtime.engine().run(requests);
    runtime.engine().observe_contexts(nullptr);
    const std::vector<std::string> result = log.lines;
    (void)runtime.engine().run(requests);
    EXPECT_EQ(log.lines, result) << "nobody looks any more";
    return result;
  };
  using Lines = std::vector<std::string>;
  const Lines computed = {"computed 0 at 30 of 30", "computed 2 at 30 of 30"};
  EXPECT_EQ(lines("full"), computed);
  EXPECT_EQ(lines("recency:when=decode,every=2"), computed);
  const Lines both = {"computed 0 at 30 of 30", "scheduled 0 at 30 of 30", "computed 2 at 30 of 30",
                      "scheduled 2 at 30 of 30"};
  EXPECT_EQ(lines("recency:when=always,stride=7,every=2"), both);
}

}  // namespace
}  // namespace pikv
