// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The scheduler quest in a whole model, on the ranks of this run.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/io/safetensors.hpp"
#include "launch/cache_report.hpp"
#include "launch/runtime.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

class Quest : public testing::Test {
 protected:
  Quest() {
    options_.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
    options_.num_threads = 1;
    const SafetensorsFile file(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
    for (const std::int64_t token : to_integers(file.tensor("passkey.input_ids"))) {
      request_.prompt.push_back(static_cast<TokenId>(token));
    }
    request_.max_tokens = 12;
  }

  struct Outcome {
    std::vector<TokenId> tokens;
    std::vector<float> logits;  // of this rank's rows
    ReadStats reads;
    std::int64_t num_slots;
    std::uint64_t decode_bytes_read;
  };
  [[nodiscard]] Outcome run(Communicator& comm, const std::string& scheduler,
                            const std::string& budget) {
    options_.scheduler = scheduler;
    options_.budget_text = budget;
    launch::Runtime runtime(comm, options_);
    Outcome outcome{};
    runtime.engine().observe_logits([&](std::size_t, std::int64_t, std::span<const float> logits) {
      outcome.logits.insert(outcome.logits.end(), logits.begin(), logits.end());
    });
    runtime.engine().keep_finished_sequences(true);
    outcome.tokens = runtime.engine().run({&request_, 1})[0].tokens;
    outcome.reads = launch::gather_read_stats(runtime);
    outcome.num_slots = runtime.cache().stats().num_slots;
    comm.all_reduce(std::span(&outcome.num_slots, 1), ReduceOp::kSum);
    outcome.decode_bytes_read = runtime.engine().stats().decode_bytes_read;
    runtime.cache().check_integrity();
    return outcome;
  }

  launch::RuntimeOptions options_;
  Request request_;
};

TEST_F(Quest, ReadsThePagesThatItReadsOnOneRank) {
  const auto alone = make_single_communicator();
  for (const char* budget : {"0.1", "64"}) {
    const Outcome expected = run(*alone, "quest", budget);
    const Outcome outcome = run(world(), "quest", budget);
    EXPECT_EQ(outcome.tokens, expected.tokens);
    EXPECT_EQ(outcome.num_slots, expected.num_slots);
    EXPECT_EQ(outcome.reads.num_pages_there, expected.reads.num_pages_there);
    EXPECT_EQ(outcome.reads.num_pages_read, expected.reads.num_pages_read);
  }
}

TEST_F(Quest, ReadsNoMoreThanItsBudgetAndKeepsEverything) {
  const Outcome full = run(world(), "full", "1.0");
  const Outcome quest = run(world(), "quest", "64");
  EXPECT_EQ(quest.num_slots, full.num_slots);
  const std::int64_t steps = static_cast<std::int64_t>(quest.tokens.size()) - 1;
  EXPECT_EQ(quest.reads.num_pages_read, steps * 4 * 2 * (64 / 16))
      << "four of six layers, two KV heads";
  EXPECT_LT(quest.reads.pages_share(), 0.1);
  std::array<std::int64_t, 2> bytes = {static_cast<std::int64_t>(full.decode_bytes_read),
                                       static_cast<std::int64_t>(quest.decode_bytes_read)};
  world().all_reduce(std::span<std::int64_t>(bytes), ReduceOp::kSum);
  EXPECT_LT(bytes[1], bytes[0]);
}

TEST_F(Quest, WithABudgetOfEverythingIsTheFullCacheBitForBit) {
  const Outcome full = run(world(), "full", "1.0");
  for (const char* budget : {"1.0", "100000"}) {
    const Outcome quest = run(world(), "quest:dense_layers=0", budget);
    EXPECT_EQ(quest.tokens, full.tokens);
    EXPECT_EQ(quest.logits, full.logits);
    EXPECT_GT(quest.reads.num_pages_there, 0);
    EXPECT_EQ(quest.reads.bytes_not_read, 0u);
  }
}

}  // namespace
}  // namespace pikv
