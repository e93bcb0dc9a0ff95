// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A budget of bytes is of the pages of all sequences together, on any number of ranks.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "launch/runtime.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

class ByteBudgetRanks : public testing::TestWithParam<std::string> {};

TEST_P(ByteBudgetRanks, IsSharedBySequencesAndHeldWithinAPageAStream) {
  Random random(181);
  for (const std::size_t num_sequences : {std::size_t{1}, std::size_t{3}}) {
    launch::RuntimeOptions options;
    options.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options.num_threads = 1;
    options.kv_dtype = GetParam();
    options.scheduler = "recency:when=both,every=1";
    options.budget_text = "384K";
    launch::Runtime runtime(world(), options);
    std::vector<Request> requests(num_sequences);
    for (Request& request : requests) {
      for (int i = 0; i < 200; ++i) {
        request.prompt.push_back(static_cast<TokenId>(random.integer(3, 383)));
      }
      request.max_tokens = 20;
    }
    runtime.engine().keep_finished_sequences(true);
    const auto ranks = static_cast<std::uint64_t>(world().size());
    const std::uint64_t num_heads = 3 * 2 * num_sequences;
    const std::uint64_t page_bytes = runtime.cache().sealed_layouts().data[0].page_bytes();
    const std::uint64_t slots_a_head =
        std::min<std::uint64_t>(384 * 1024 * ranks / (num_heads * page_bytes) * 16, 219);
    (void)runtime.engine().run(requests, {}, [&](std::int64_t done, std::int64_t) {
      if (done < static_cast<std::int64_t>(210 * num_sequences)) return;
      const CacheStats stats = runtime.cache().stats();
      const std::size_t num_streams = runtime.cache().stream_ids().size();
      std::array<std::int64_t, 3> sums = {stats.num_slots,
                                          static_cast<std::int64_t>(stats.page_bytes),
                                          static_cast<std::int64_t>(num_streams)};
      world().all_reduce(std::span<std::int64_t>(sums), ReduceOp::kSum);
      // The last step of a sequence is not followed by a run.
      EXPECT_LE(sums[0], static_cast<std::int64_t>((slots_a_head + 1) * num_heads));
      EXPECT_GE(sums[0],
                static_cast<std::int64_t>(std::min<std::uint64_t>(slots_a_head, 210) * num_heads));
      const auto open_bytes = runtime.cache().open_layout().page_bytes();
      EXPECT_LE(static_cast<std::uint64_t>(sums[1]),
                384 * 1024 * ranks + static_cast<std::uint64_t>(sums[2]) * open_bytes);
    });
    std::int64_t passes = runtime.scheduling().stats().num_passes;
    EXPECT_GT(passes, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, ByteBudgetRanks, testing::Values("f32", "bf16"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv
