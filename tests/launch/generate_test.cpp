// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What pikv generate and pikv info print when all is well.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/launch/process.hpp"

namespace pikv::launch_test {
namespace {

using nlohmann::json;
using testing_support::TempFolder;

constexpr const char* kPrompt = "The cache keeps";

Result generate(const Arguments& more, int num_ranks = 1, const std::string& input = {}) {
  Arguments arguments = {"generate", "--model", tiny_model(), "--max-tokens", "24"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Result result = run_pikv(arguments, num_ranks, input);
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(result.complaints().empty()) << result.err;
  return result;
}

std::string quiet_text(const Arguments& more) {
  Arguments arguments = more;
  arguments.push_back("--quiet");
  const Result result = generate(arguments);
  EXPECT_EQ(result.err, "");
  return result.out;
}

json in_json(const Arguments& more, int num_ranks = 1) {
  Arguments arguments = more;
  arguments.push_back("--json");
  return json::parse(generate(arguments, num_ranks).out);  // the whole of it is one object
}

TEST(Generate, QuietPrintsTheTextAlone) {
  const std::string text = quiet_text({"--prompt", kPrompt});
  EXPECT_EQ(text, in_json({"--prompt", kPrompt})["text"].get<std::string>() + "\n");
  EXPECT_GT(text.size(), 10u);
}

TEST(Generate, TheReportGoesToStandardError) {
  const Result result = generate({"--prompt", kPrompt});
  EXPECT_EQ(result.out, quiet_text({"--prompt", kPrompt}));
  EXPECT_TRUE(result.err.starts_with("pikv generate --model ")) << result.err;
  for (const char* part : {"prefill", "decode", "tokens/s", "KV slots", "Shards of layer 0"}) {
    EXPECT_NE(result.err.find(part), std::string::npos) << part << " in\n" << result.err;
  }
}

TEST(Generate, JsonHasTextTokensTimingsAndCache) {
  const json result = in_json({"--prompt", kPrompt, "--ignore-eos", "--report-layer", "3"}, 1);
  EXPECT_EQ(result["tokens"].size(), 24u);
  EXPECT_EQ(result["finish_reason"], "max_tokens");
  const auto prompt_tokens = result["prompt_tokens"].get<std::int64_t>();
  EXPECT_GT(prompt_tokens, 0);
  EXPECT_EQ(result["timings"]["prefill_tokens"], prompt_tokens);
  EXPECT_EQ(result["timings"]["decode_tokens"], 23) << "prefill gives the first";
  EXPECT_GT(result["timings"]["decode_tokens_per_s"].get<double>(), 0.0);
  EXPECT_EQ(result["kv"]["layer"], 3);
  ASSERT_EQ(result["kv"]["ranks"].size(), 1u);
  ASSERT_EQ(result["kv"]["shards"].size(), 8u);
  std::int64_t slots = 0;
  for (const json& shard : result["kv"]["shards"]) slots += shard["kv_slots"].get<std::int64_t>();
  EXPECT_EQ(slots, (prompt_tokens + 23) * 2) << "each of 2 KV heads keeps each token once";
}

TEST(Generate, PromptsComeFromAFileOrStandardInput) {
  const TempFolder folder;
  const auto file = folder.write("prompt", kPrompt);
  const std::string text = quiet_text({"--prompt", kPrompt});
  EXPECT_EQ(quiet_text({"--prompt-file", file.string()}), text);
  EXPECT_EQ(generate({"--prompt-file", "-", "--quiet"}, 1, kPrompt).out, text);
  EXPECT_EQ(generate({"--quiet"}, 1, kPrompt).out, text);
  if (has_launcher()) {
    EXPECT_EQ(generate({"--quiet"}, 3, kPrompt).out, text);
  }
}

TEST(Generate, AStopStringCutsTheText) {
  const std::string whole = in_json({"--prompt", kPrompt})["text"];
  const std::string stop = whole.substr(whole.size() / 2, 3);
  const json cut = in_json({"--prompt", kPrompt, "--stop", "never in there", "--stop", stop});
  EXPECT_EQ(cut["text"], whole.substr(0, whole.find(stop)));
  EXPECT_EQ(cut["finish_reason"], "stop_string");
  EXPECT_LT(cut["tokens"].size(), 24u);
}

TEST(Generate, ABatchKeepsItsIdsAndItsOrder) {
  const TempFolder folder;
  const auto batch = folder.write("batch", R"({"prompt": "One", "id": "z", "max_tokens": 9}
{"prompt": "The second of them is longer", "id": 7}

{"prompt": "Three"}
{"prompt": "One", "id": "z"}
)");
  const std::string output = (folder.path() / "out").string();
  for (const int num_ranks : {1, 3}) {
    if (num_ranks > 1 && !has_launcher()) continue;
    SCOPED_TRACE(testing::Message() << num_ranks << " ranks");
    const Result run = generate(
        {"--batch", batch.string(), "--output", output, "--ignore-eos", "--max-batch", "2"},
        num_ranks);
    EXPECT_EQ(run.out, "");
    std::vector<json> results;
    std::istringstream lines(testing_support::read_file(output));
    for (std::string line; std::getline(lines, line);) results.push_back(json::parse(line));
    ASSERT_EQ(results.size(), 4u);
    const std::vector<std::string> ids = {"z", "7", "4", "z"};
    for (std::size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(results[i]["id"], ids[i]);
      EXPECT_EQ(results[i]["tokens"].size(), i == 0 ? 9u : 24u);
    }
    EXPECT_EQ(results[1]["text"],
              in_json({"--prompt", "The second of them is longer", "--ignore-eos"})["text"]);
    const std::string longer = results[3]["text"];
    EXPECT_TRUE(longer.starts_with(results[0]["text"].get<std::string>()));
  }
}

TEST(Generate, ASeedGivesTheSameTextOnAnyNumberOfRanks) {
  const auto text = [](const char* seed, int num_ranks) {
    return generate({"--prompt", kPrompt, "--quiet", "--temperature", "0.8", "--seed", seed},
                    num_ranks)
        .out;
  };
  std::set<std::string> texts;
  for (const char* seed : {"1", "2", "3"}) {
    const std::string alone = text(seed, 1);
    EXPECT_EQ(text(seed, 1), alone);
    for (const int num_ranks : {2, 3}) {
      if (!has_launcher()) continue;
      EXPECT_EQ(text(seed, num_ranks), alone) << num_ranks << " ranks";
    }
    texts.insert(alone);
  }
  EXPECT_EQ(texts.size(), 3u) << "other seeds give other texts";
}

TEST(Generate, OptionsComeFromAConfigFile) {
  const TempFolder folder;
  const auto config = folder.write(
      "pikv.toml", "[generate]\nmodel = \"" + tiny_model() +
                       "\"\nprompt = \"The cache keeps\"\nmax-tokens = 24\nquiet = true\n");
  const Result result = run_pikv({"--config", config.string(), "generate"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, quiet_text({"--prompt", kPrompt}));
}

TEST(Info, ShowsTheBuildAndThePolicies) {
  const Result result = run_pikv({"info"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* part : {"pikv ", "built with", "qwen3_moe", "topk", "contiguous", "full"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
}

TEST(Info, ShowsAModel) {
  const Result result = run_pikv({"info", "--model", tiny_model()});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  for (const char* part :
       {"family       qwen3_moe", "layers       6", "experts      8 of which 2 a token",
        "context      4096 tokens", "KV a token   3.0 KiB in bf16, 6.0 KiB in f32"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
}

TEST(Info, PrintsOnceOnSeveralRanks) {
  if (!has_launcher()) GTEST_SKIP() << "needs MPI";
  const Result result = run_pikv({"info"}, 3);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.out.find("ranks        3 (mpi)"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("built with"), result.out.rfind("built with"));
}

TEST(Pikv, HelpAndVersionAreNoErrors) {
  for (const char* flag : {"--help", "--version"}) {
    const Result result = run_pikv({flag});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_NE(result.out, "");
  }
}

}  // namespace
}  // namespace pikv::launch_test
