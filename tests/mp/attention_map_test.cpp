// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the newest queries attend to and what was evicted is gathered on rank 0, whoever holds it.
#include "core/eviction/attention_map.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/io/safetensors.hpp"
#include "launch/eval/context_watch.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv::launch {
namespace {

namespace fs = std::filesystem;

WatchedContext watch(Communicator& comm, const std::string& scheduler) {
  RuntimeOptions options;
  options.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
  options.scheduler = scheduler;
  options.budget_text = "0.3";
  options.num_threads = 1;
  options.observed_queries = ContextWatch::kNumQueries;
  const SafetensorsFile file(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
  std::vector<Request> requests(2);
  for (Request& request : requests) {
    for (const std::int64_t token : to_integers(file.tensor("passkey.input_ids"))) {
      request.prompt.push_back(static_cast<TokenId>(token));
    }
    request.prompt.resize(300);
    request.context_tokens = 290;
    request.max_tokens = 2;
  }
  requests[1].prompt[0] = 5;  // of no interest to the watch
  Runtime runtime(comm, options);
  ContextWatch watch(runtime);
  runtime.engine().observe_contexts(&watch);
  (void)runtime.engine().run(requests);
  return watch.context();
}

TEST(AttentionMap, OfSeveralRanksIsThatOfOne) {
  for (const std::string scheduler :
       {"full", "streaming_llm", "streaming_llm:when=stride,stride=100"}) {
    SCOPED_TRACE(scheduler);
    const WatchedContext context = watch(world(), scheduler);
    if (world().rank() != 0) {
      EXPECT_TRUE(context.map.heads.empty());
      continue;
    }
    const WatchedContext expected = watch(*make_single_communicator(), scheduler);
    EXPECT_EQ(context.evicted, expected.evicted);
    // 290 * 0.3 are kept; of the first 200, 60 before.
    const std::size_t num_evicted = scheduler == "full"            ? 0
                                    : scheduler == "streaming_llm" ? 203
                                                                   : 63;
    ASSERT_EQ(context.map.heads.size(), 12u);
    ASSERT_EQ(expected.map.heads.size(), 12u);
    EXPECT_EQ(context.map.num_bins(), 145);
    for (std::size_t h = 0; h < 12; ++h) {
      EXPECT_EQ(context.evicted[h].size(), num_evicted);
      const AttentionMap::Head& head = context.map.heads[h];
      EXPECT_TRUE(std::ranges::is_sorted(head.positions));
      ASSERT_EQ(head.positions, expected.map.heads[h].positions);
      const auto expect_near = [](const std::vector<float>& a, const std::vector<float>& b) {
        ASSERT_EQ(a.size(), b.size());
        for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4f);
      };
      expect_near(head.weights, expected.map.heads[h].weights);
      expect_near(head.cells, expected.map.heads[h].cells);
    }
  }
}

}  // namespace
}  // namespace pikv::launch
