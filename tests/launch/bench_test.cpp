// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the benches print; figures are not looked at.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/launch/process.hpp"

namespace pikv::launch_test {
namespace {

using nlohmann::json;

json bench_decode(const Arguments& more) {
  Arguments arguments = {"bench-decode", "--steps", "2",         "--batch", "1,3",
                         "--context",    "40",      "--threads", "1",       "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Result result = run_pikv(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return json::parse(result.out);
}

TEST(BenchDecode, FillsContextsAndCountsTheirBytes) {
  const json whole = bench_decode({"--model", tiny_model(), "--kv-shards", "1"});
  const json packed =
      bench_decode({"--model", tiny_model(), "--kv-shards", "1", "--codec", "int4"});
  ASSERT_EQ(whole["rows"].size(), 2u);
  const auto bytes = [](const json& bench, std::size_t row) {
    return bench["rows"][row]["kv_bytes"].get<std::int64_t>();
  };
  EXPECT_EQ(bytes(whole, 1), 3 * bytes(whole, 0));
  EXPECT_LT(bytes(packed, 0), bytes(whole, 0));
  for (const json& row : whole["rows"]) {
    EXPECT_GT(row["ms"].get<double>(), 0.0);
    EXPECT_GE(row["ms"].get<double>(), row["host_ms"].get<double>());
    EXPECT_GT(row["weight_bytes"].get<std::int64_t>(), 0);
  }
}

TEST(BenchDecode, NeedsAConfigAlone) {
  const testing_support::TempFolder folder;
  folder.write("config.json", R"({"model_type": "qwen3_moe", "hidden_size": 64,
      "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2,
      "moe_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": [],
      "norm_topk_prob": true, "rms_norm_eps": 1e-6, "rope_theta": 10000,
      "max_position_embeddings": 512, "vocab_size": 128, "tie_word_embeddings": false,
      "attention_bias": false, "use_sliding_window": false, "eos_token_id": 0})");
  const json shape = bench_decode({"--shape", folder.path().string()});
  EXPECT_EQ(shape["rows"].size(), 2u);
  const json named = bench_decode({"--shape", (folder.path() / "config.json").string()});
  EXPECT_EQ(named["rows"].size(), 2u);
}

TEST(BenchDecode, AnswersAnUnknownShapeWithTheKnownOnes) {
  const Result result = run_pikv({"bench-decode", "--shape", "qwen3-30b"});
  EXPECT_EQ(result.exit_code, 2);
  ASSERT_EQ(result.complaints().size(), 1u) << result.err;
  EXPECT_NE(result.complaints()[0].find("shape: 'qwen3-30b' is neither"), std::string::npos)
      << result.err;
  EXPECT_NE(result.complaints()[0].find("qwen3-30b-a3b"), std::string::npos) << result.err;
}

TEST(BenchDecode, DividesContextsOverRanks) {
  if (!has_launcher()) GTEST_SKIP() << "needs MPI";
  const auto run = [](int num_ranks, const std::string& exchange) {
    const Result result =
        run_pikv({"bench-decode", "--steps", "2", "--batch", "3", "--context", "400", "--threads",
                  "1", "--json", "--model", tiny_model(), "--exchange", exchange},
                 num_ranks);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out);
  };
  const json alone = run(1, "auto")["rows"][0];
  for (const char* exchange : {"auto", "host"}) {
    SCOPED_TRACE(exchange);
    const json bench = run(2, exchange);
    EXPECT_EQ(bench["ranks"], 2);
    EXPECT_EQ(bench["exchange"], std::string(exchange) == "host" ? "host" : "messages");
    const json row = bench["rows"][0];
    ASSERT_EQ(row["kv_bytes_by_rank"].size(), 2u);
    const auto bytes = [&](std::size_t rank) {
      return row["kv_bytes_by_rank"][rank].get<std::int64_t>();
    };
    EXPECT_GT(bytes(1), 0);
    EXPECT_LT(bytes(0), alone["kv_bytes"].get<std::int64_t>());
    EXPECT_GT(row["exchange_bytes"].get<std::int64_t>(), 0);
  }
  EXPECT_EQ(alone["exchange_bytes"], 0);
}

TEST(BenchDecode, RefusesNothingToRun) {
  const Result result = run_pikv({"bench-decode"});
  EXPECT_EQ(result.exit_code, 2);
  ASSERT_EQ(result.complaints().size(), 1u) << result.err;
  EXPECT_NE(result.complaints()[0].find("give --model or --shape"), std::string::npos);
}

}  // namespace
}  // namespace pikv::launch_test
