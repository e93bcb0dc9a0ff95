// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A job that loses one of its ranks.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/launch/process.hpp"

namespace pikv::launch_test {

/// What is lost, how, and how long it may take.
struct Loss {
  std::size_t victim;
  int signal;
  std::chrono::seconds until_text;  // before the job prints any
  std::chrono::seconds until_end;   // after the loss
};

/// Sends a rank of a job the signal once the job prints text, and expects the job to end, not well.
/// Returns what it said; `ranks` gets the processes of its ranks.
inline Result lose_rank(const Arguments& job, int num_ranks, const Loss& loss,
                        std::vector<pid_t>& ranks) {
  Process process(job);
  const auto end = std::chrono::steady_clock::now() + loss.until_text;
  while (process.out().empty() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ranks = process.ranks();
  EXPECT_EQ(ranks.size(), static_cast<std::size_t>(num_ranks));
  if (loss.victim < ranks.size()) {
    EXPECT_EQ(kill(ranks[loss.victim], loss.signal), 0);
  }
  Result result = process.wait(loss.until_end);
  EXPECT_FALSE(result.timed_out) << result.err;
  EXPECT_NE(result.exit_code, 0);
  return result;
}

/// One complaint: the rank that waited, the peer that it waited for, and how long. A reduction, and
/// NCCL, cannot tell which of the peers is late.
inline void expect_timeout_of(std::size_t victim, const std::string& deadline_ms,
                              const Result& result) {
  const std::vector<std::string> complaints = result.complaints();
  ASSERT_EQ(complaints.size(), 1u) << result.err;
  const std::string& complaint = complaints[0];
  const auto says = [&](const std::string& text) {
    return complaint.find(text) != std::string::npos;
  };
  EXPECT_TRUE(complaint.starts_with("pikv: ")) << complaint;
  EXPECT_TRUE(says(" waits for its peers ") || says("rank " + std::to_string(victim))) << complaint;
  EXPECT_TRUE(says(" waits for ") && says(" after " + deadline_ms + " ms")) << complaint;
}

}  // namespace pikv::launch_test
