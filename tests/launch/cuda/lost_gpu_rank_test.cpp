// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A rank with a GPU that dies or stops answering ends the job; kernels that wait for it end too.
// Skipped on a machine with fewer than two GPUs.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <vector>

#include "kernels/common/exec.hpp"
#include "tests/launch/lost_rank.hpp"
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
};

TEST_P(LostGpuRank, ARankThatIsKilledEndsTheJob) {
  for (const std::size_t victim : {0u, 1u}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim);
    std::vector<pid_t> ranks;
    (void)lose_rank(endless_job(), kNumRanks, {victim, SIGKILL, 90s, kPatience}, ranks);
  }
}

TEST_P(LostGpuRank, ARankThatStopsAnsweringIsATimeout) {
  for (const std::size_t victim : {0u, 1u}) {
    SCOPED_TRACE(testing::Message() << "rank " << victim);
    std::vector<pid_t> ranks;
    expect_timeout_of(
        victim, kDeadlineMs,
        lose_rank(endless_job(), kNumRanks, {victim, SIGSTOP, 90s, kPatience}, ranks));
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, LostGpuRank, testing::Values("nccl", "peer"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv::launch_test
