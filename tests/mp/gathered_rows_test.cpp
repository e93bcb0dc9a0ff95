// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The whole model where rows of all ranks are gathered on every rank, as GPUs do it: on CPUs
// against messages, and on GPUs against CPUs and against one GPU.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "routing/tables.hpp"
#include "tests/mp/gpu_of_rank.hpp"
#include "tests/mp/whole_model.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

class GatheredRows : public WholeModel, public testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    if (!on_gpus()) return;
    const std::optional<int> gpu = gpu_of_rank(GetParam() == "peer");
    if (!gpu) GTEST_SKIP() << "too few GPUs for " << world().size() << " ranks";
    device_ = "cuda:" + std::to_string(*gpu);
  }

  [[nodiscard]] static bool on_gpus() { return GetParam() != "host"; }

  void expect_the_same(const std::string& codec, const std::string& scheduler, double tolerance) {
    SCOPED_TRACE(codec + ", " + scheduler + ", owners by " + options_.kv_owner);
    options_.device = "cpu";
    options_.exchange = "auto";
    const Outcome expected = run(world(), codec, scheduler);
    options_.device = device_;
    options_.exchange = GetParam();
    const Outcome found = run(world(), codec, scheduler);
    expect_alike(found, expected, tolerance);
  }

  std::string device_ = "cpu";
};

TEST_P(GatheredRows, OwnersByEveryRouter) {
  for (const auto& router : routing::kv_routers()) {
    options_.kv_owner = router.name;
    expect_the_same("none", "full", kRounding);
  }
}

TEST_P(GatheredRows, PagesOfOtherTypes) {
  options_.kv_owner = "block";
  expect_the_same("none:dtype=bf16", "full", kHalfPrecision);
  expect_the_same("int8", "full", kBytes);
  expect_the_same("hadamard", "full", kRounding);
}

TEST_P(GatheredRows, SchedulersThatKeepAccountAndReadAgain) {
  for (const char* scheduler : {"h2o", "streaming_llm", "snapkv", "kvzip"}) {
    expect_the_same("none", scheduler, kRounding);
  }
  expect_the_same("int8", "h2o", kBytes);
}

TEST_P(GatheredRows, ReadersOfSomePages) {
  expect_the_same("none", "quest", kRounding);
  options_.kv_owner = "hash";
  expect_the_same("none", "quest", kRounding);
}

// Fewer shards than ranks: some hold nothing.
TEST_P(GatheredRows, OneRankMayHoldAllEntries) {
  options_.kv_shards = 1;
  expect_the_same("none", "full", kRounding);
  expect_the_same("none", "h2o", kRounding);
  expect_the_same("none", "quest", kRounding);
}

TEST_P(GatheredRows, SmallChunksLeaveRanksWithoutRows) {
  options_.chunk_tokens = 3;
  for (Request& request : requests_) {
    request.prompt.resize(40);
    request.context_tokens = 30;
  }
  expect_the_same("none", "full", kRounding);
}

TEST_P(GatheredRows, SeveralGpusSayWhatOneSays) {
  if (!on_gpus()) GTEST_SKIP() << "of GPUs";
  options_.device = device_;
  const auto alone = make_single_communicator();
  for (const char* scheduler : {"full", "h2o"}) {
    SCOPED_TRACE(scheduler);
    options_.exchange = "auto";
    const Outcome expected = run(*alone, "none", scheduler);
    options_.exchange = GetParam();
    const Outcome found = run(world(), "none", scheduler);
    EXPECT_LT(difference(found, expected), kRounding);
    EXPECT_EQ(found.tokens, expected.tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GatheredRows, testing::Values("host", "nccl", "peer"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv
