// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Whole models on the GPU against the CPU: logits as near as the elements of the pages allow, and
// in float32 the same greedy tokens, with every kind of codec and scheduler; and all families
// against the hub implementation. Skipped on a machine without a GPU.
#include "tests/mp/whole_model.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace pikv {
namespace {

namespace fs = std::filesystem;

bool has_gpu() { return !describe_cuda_devices().empty(); }

class OnGpu : public WholeModel {
 protected:
  OnGpu() : comm_(make_single_communicator()) {}

  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
  }

  void expect_as_on_cpu(const std::string& codec, const std::string& scheduler, double tolerance) {
    SCOPED_TRACE(codec + ", " + scheduler);
    options_.device = "cpu";
    const Outcome expected = run(*comm_, codec, scheduler);
    options_.device = "cuda";
    const Outcome found = run(*comm_, codec, scheduler);
    expect_alike(found, expected, tolerance);
  }

  static constexpr double kFewDigits = 5e-2;  // of e4m3: the next one is an eighth away
  static constexpr double kNibbles = 0.1;
  // And slots between two tiers, one of them in two bits, or between kept and evicted.
  static constexpr double kTiers = 0.25;

  std::unique_ptr<Communicator> comm_;
};

TEST_F(OnGpu, EveryElementTypeOfPages) {
  expect_as_on_cpu("none", "full", kRounding);
  for (const char* codec : {"none:dtype=bf16", "none:dtype=f16"}) {
    expect_as_on_cpu(codec, "full", kHalfPrecision);
  }
  for (const char* codec : {"int8", "int8:axis=token"}) expect_as_on_cpu(codec, "full", kBytes);
  expect_as_on_cpu("fp8", "full", kFewDigits);
  expect_as_on_cpu("int4", "full", kNibbles);
}

TEST_F(OnGpu, CodecsWithBasesAndTiers) {
  for (const char* codec :
       {"hadamard", "svd:rank=48,dtype=f32", "svd:rank=32,dtype=f32/none:dtype=f32"}) {
    expect_as_on_cpu(codec, "full", kRounding);
  }
  expect_as_on_cpu("pyramid", "h2o", kTiers);
}

TEST_F(OnGpu, EveryKindOfScheduler) {
  for (const char* scheduler : {"h2o", "snapkv", "streaming_llm", "lru", "tova", "keydiff",
                                "expected_attention", "quest", "cam", "kvzip"}) {
    expect_as_on_cpu("none", scheduler, kRounding);
  }
  expect_as_on_cpu("none:dtype=bf16", "quest", kHalfPrecision);
  expect_as_on_cpu("int8", "h2o", kBytes);
}

TEST_F(OnGpu, PagesOfOtherSizes) {
  options_.page_slots = 64;
  expect_as_on_cpu("none:dtype=bf16", "full", kHalfPrecision);
  options_.kv_shards = 1;
  expect_as_on_cpu("none:dtype=bf16", "full", kHalfPrecision);
  expect_as_on_cpu("int4", "full", kNibbles);
}

TEST_F(OnGpu, PagesMayTakeWhatIsFreeAndAFullPoolIsNoFaultOfTheGpu) {
  options_.device = "cuda";
  std::vector<std::vector<TokenId>> expected;
  {
    launch::Runtime runtime(*comm_, options_);
    ASSERT_TRUE(runtime.kv_limit_bytes().has_value());
    const auto gpu = runtime.exec().gpu_memory();
    ASSERT_TRUE(gpu.has_value());
    EXPECT_GT(*runtime.kv_limit_bytes(), 0u);
    EXPECT_LT(*runtime.kv_limit_bytes(), gpu->total_bytes - (std::size_t{1} << 30));
    EXPECT_LE(gpu->free_bytes, gpu->total_bytes);
    for (const Completion& completion : runtime.engine().run(requests_)) {
      expected.push_back(completion.tokens);
    }
  }
  options_.kv_memory.fraction = 0.5;
  {
    launch::Runtime runtime(*comm_, options_);
    const auto gpu = runtime.exec().gpu_memory();
    EXPECT_LT(*runtime.kv_limit_bytes(), gpu->total_bytes / 2 + 1);
    EXPECT_GT(*runtime.kv_limit_bytes(), gpu->free_bytes / 4);
  }
  options_.kv_memory = {.bytes = std::uint64_t{64} << 10};
  launch::Runtime tiny(*comm_, options_);
  EXPECT_EQ(tiny.kv_limit_bytes(), std::uint64_t{64} << 10);
  try {
    static_cast<void>(tiny.engine().run(requests_));
    ADD_FAILURE() << "64 KiB were enough";
  } catch (const OutOfMemory& error) {
    EXPECT_NE(std::string(error.what()).find("the pool is full"), std::string::npos)
        << error.what();
  }
  options_.kv_memory = {};
  launch::Runtime again(*comm_, options_);  // the GPU has no fault pending
  const auto completions = again.engine().run(requests_);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(completions[i].tokens, expected[i]);
}

/// The largest logit found on the GPU, and on the host from the logits that an observer asks for.
TEST_F(OnGpu, GreedyTokensAreTheLargestOfTheLogits) {
  options_.device = "cuda";
  launch::Runtime runtime(*comm_, options_);
  std::vector<Request> requests;
  for (const std::int64_t length : {3, 17, 40}) {
    requests.push_back({.prompt = {}, .max_tokens = 16});
    for (std::int64_t i = 0; i < length; ++i) {
      requests.back().prompt.push_back(static_cast<TokenId>(3 + (i * 37 + length) % 300));
    }
  }
  requests.push_back(requests[0]);
  requests.back().sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = 3};
  const auto found = runtime.engine().run(requests);
  runtime.engine().observe_logits([](std::size_t, std::int64_t, std::span<const float>) {});
  const auto expected = runtime.engine().run(requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(found[i].tokens, expected[i].tokens) << "request " << i;
    EXPECT_EQ(found[i].tokens.size(), 16u) << "request " << i;
  }
}

class FamilyOnGpu : public testing::TestWithParam<std::string> {};

TEST_P(FamilyOnGpu, GreedyTokensAreThoseOfTheHub) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const fs::path directory = fs::path(PIKV_TEST_DATA_DIR) / GetParam();
  const SafetensorsFile expected(directory / "expected.safetensors");
  const std::vector<std::int64_t> ids = to_integers(expected.tensor("input_ids"));
  const std::vector<std::int64_t> tokens = to_integers(expected.tensor("greedy"));
  const auto num_sequences = static_cast<std::size_t>(expected.tensor("input_ids").shape[0]);
  std::vector<Request> requests;
  for (std::size_t s = 0; s < num_sequences; ++s) {
    const std::size_t length = ids.size() / num_sequences;
    Request request{.prompt = {},
                    .max_tokens = static_cast<std::int64_t>(tokens.size() / num_sequences)};
    for (std::size_t i = s * length; i < (s + 1) * length; ++i) {
      request.prompt.push_back(static_cast<TokenId>(ids[i]));
    }
    requests.push_back(std::move(request));
  }
  launch::RuntimeOptions options;
  options.model = directory;
  options.device = "cuda";
  options.num_threads = 1;
  const auto comm = make_single_communicator();
  launch::Runtime runtime(*comm, options);
  std::vector<std::int64_t> found;
  for (const Completion& completion : runtime.engine().run(requests)) {
    found.insert(found.end(), completion.tokens.begin(), completion.tokens.end());
  }
  EXPECT_EQ(found, tokens);
}

INSTANTIATE_TEST_SUITE_P(
    All, FamilyOnGpu,
    testing::Values("families/llama", "families/mistral", "families/mixtral", "families/olmoe",
                    "families/qwen2", "families/qwen2_moe", "families/qwen3", "families/qwen3_moe",
                    "families_extra/mistral_window", "families_extra/olmoe_clip"),
    [](const auto& info) { return info.param.substr(info.param.find('/') + 1); });

}  // namespace
}  // namespace pikv
