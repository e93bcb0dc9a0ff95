// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A rank with a GPU that dies or stops answering ends the job; kernels that wait for it end too.
// Skipped on a machine with fewer than two GPUs.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <thread>

#include "kernels/common/exec.hpp"
#include "tests/launch/process.hpp"

namespace pikv::launch_test {
namespace {

using namespace std::chrono_literals;

constexpr int kNumRanks = 2;

// Longer than NCCL takes to connect.
constexpr const char* kDeadlineMs = "20000";
constexpr std::chrono::seconds kPatience = 120s;

class LostGpuRank : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!has_launcher()) GTEST_SKIP() << "needs MPI";
    const std::size_t num_gpus = describe_cuda_devices().size();
    if (num_gpus < kNumRanks) GTEST_SKIP() << num_gpus << " GPUs for " << kNumRanks << " ranks";
  }

  /// A job that would go on for long.
  static Arguments endless_job() {
    return on_ranks(
        kNumRanks,
        {"generate", "--model", tiny_model(), "--device", "cuda", "--exchange", GetParam(),
         "--prompt", "The cache", "--max-tokens", "3000", "--ignore-eos", "--threads", "1"},
        {"-x", std::string("PIKV_COMM_DEADLINE_MS=") + kDeadlineMs});
  }

  static std::vector<pid_t> ranks_once_generating(const Process& job) {
    const auto end = std::chrono::steady_clock::now() + 90s;
    while (job.out().empty() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(5ms);
    }
    return job.ranks();
  }
};

TEST_P(LostGpuRank, ARankThatIsKilledEndsTheJob) {
  for (const std::size_t victim : {0u, 1u}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim);
    Process job(endless_job());
    const std::vector<pid_t> ranks = ranks_once_generating(job);
    ASSERT_EQ(ranks.size(), static_cast<std::size_t>(kNumRanks));
    ASSERT_EQ(kill(ranks[victim], SIGKILL), 0);
    const Result result = job.wait(kPatience);
    EXPECT_FALSE(result.timed_out) << result.err;
    EXPECT_NE(result.exit_code, 0);
  }
}

TEST_P(LostGpuRank, ARankThatStopsAnsweringIsATimeout) {
  for (const std::size_t victim : {0u, 1u}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim);
    Process job(endless_job());
    const std::vector<pid_t> ranks = ranks_once_generating(job);
    ASSERT_EQ(ranks.size(), static_cast<std::size_t>(kNumRanks));
    ASSERT_EQ(kill(ranks[victim], SIGSTOP), 0);
    const Result result = job.wait(kPatience);
    EXPECT_FALSE(result.timed_out) << result.err;
    EXPECT_NE(result.exit_code, 0);
    const std::vector<std::string> complaints = result.complaints();
    ASSERT_EQ(complaints.size(), 1u) << result.err;
    // NCCL cannot tell which of its peers is late.
    const std::string& complaint = complaints[0];
    const auto says = [&](const std::string& text) {
      return complaint.find(text) != std::string::npos;
    };
    EXPECT_TRUE(complaint.starts_with("pikv: ")) << complaint;
    EXPECT_TRUE(says(" waits for ") && says(std::string(" after ") + kDeadlineMs + " ms"))
        << complaint;
    EXPECT_TRUE(says(" waits for its peers ") || says("rank " + std::to_string(victim)))
        << complaint;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, LostGpuRank, testing::Values("nccl", "peer"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv::launch_test
