// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A rank that dies or stops answering ends the job; it never hangs it.
#include "tests/launch/lost_rank.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <thread>

#include "tests/launch/process.hpp"

namespace pikv::launch_test {
namespace {

using namespace std::chrono_literals;

constexpr int kNumRanks = 3;

// Longer than other tests may keep a rank from the processor.
constexpr const char* kDeadlineMs = "4000";
constexpr std::chrono::seconds kPatience = 40s;

class LostRank : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_launcher()) GTEST_SKIP() << "needs MPI";
  }

  /// A job that would go on for long, waited for until it prints text.
  static Arguments endless_job() {
    return on_ranks(kNumRanks,
                    {"generate", "--model", tiny_model(), "--prompt", "The cache", "--max-tokens",
                     "3000", "--ignore-eos", "--threads", "1"},
                    {"-x", std::string("PIKV_COMM_DEADLINE_MS=") + kDeadlineMs});
  }

  /// The launcher may return while a rank that it ended is still putting its memory in order.
  static bool is_gone_soon(pid_t rank) {
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (is_running(rank) && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(10ms);
    }
    return !is_running(rank);
  }
};

TEST_F(LostRank, ARankThatIsKilledEndsTheJob) {
  for (const std::size_t victim : {0u, 2u}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim);
    std::vector<pid_t> ranks;
    (void)lose_rank(endless_job(), kNumRanks, {victim, SIGKILL, 30s, kPatience}, ranks);
    for (const pid_t rank : ranks) EXPECT_TRUE(is_gone_soon(rank)) << "a rank outlives the job";
  }
}

TEST_F(LostRank, ARankThatStopsAnsweringIsNamed) {
  for (const std::size_t victim : {0u, 1u, 2u}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim);
    std::vector<pid_t> ranks;
    expect_timeout_of(
        victim, kDeadlineMs,
        lose_rank(endless_job(), kNumRanks, {victim, SIGSTOP, 30s, kPatience}, ranks));
  }
}

TEST_F(LostRank, ADeadlineThatIsNoTimeIsRefused) {
  for (const char* deadline : {"0", "-5", "soon", "1e9", ""}) {
    SCOPED_TRACE(deadline);
    Process job(
        on_ranks(kNumRanks, {"info"}, {"-x", std::string("PIKV_COMM_DEADLINE_MS=") + deadline}));
    const Result result = job.wait(kPatience);
    EXPECT_FALSE(result.timed_out);
    EXPECT_NE(result.exit_code, 0);
    EXPECT_EQ(result.out, "");
    ASSERT_GE(result.complaints().size(), 1u) << result.err;
    EXPECT_NE(result.complaints()[0].find("PIKV_COMM_DEADLINE_MS"), std::string::npos);
  }
}

}  // namespace
}  // namespace pikv::launch_test
