// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Whatever a user gets wrong: pikv ends with code 2 and one line on standard error that says what
// is wrong, prints nothing else, and does not hang; alone and on three ranks.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/launch/process.hpp"
#include "tests/support/safetensors_image.hpp"

namespace pikv::launch_test {
namespace {

namespace fs = std::filesystem;
using testing_support::FolderCopy;
using testing_support::TempFolder;
using testing_support::TensorImage;

constexpr int kBadInput = 2;
constexpr int kFault = 1;

// In arguments: the folder of the case, and the model that is in order.
constexpr std::string_view kHere = "{here}";
constexpr std::string_view kModel = "{model}";

struct BadInput {
  const char* name;
  Arguments arguments;
  std::string reason;  // part of the line
  std::function<void(const TempFolder&)> prepare = [](const TempFolder&) {};
  int exit_code = kBadInput;
};

void PrintTo(const BadInput& bad, std::ostream* out) { *out << bad.name; }

class BadInputs : public testing::TestWithParam<std::tuple<BadInput, int>> {};

TEST_P(BadInputs, EndWithOneLineAndCodeTwo) {
  const auto& [bad, num_ranks] = GetParam();
  if (num_ranks > 1 && !has_launcher()) GTEST_SKIP() << "needs MPI";
  const TempFolder folder;
  bad.prepare(folder);
  Arguments arguments = bad.arguments;
  for (std::string& argument : arguments) {
    if (const auto at = argument.find(kHere); at != std::string::npos) {
      argument.replace(at, kHere.size(), folder.path().string());
    } else if (argument == kModel) {
      argument = tiny_model();
    }
  }
  const Result result = run_pikv(arguments, num_ranks);
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.exit_code, bad.exit_code);
  EXPECT_EQ(result.out, "");
  ASSERT_EQ(result.complaints().size(), 1u) << result.err;
  const std::string line = result.complaints()[0];
  EXPECT_NE(line.find(bad.reason), std::string::npos) << line << "\nlacks: " << bad.reason;
  EXPECT_LT(line.size(), 600u) << line;
}

std::string name_of(const testing::TestParamInfo<BadInputs::ParamType>& info) {
  return std::string(std::get<0>(info.param).name) + "OnRanks" +
         std::to_string(std::get<1>(info.param));
}

/// generate on the model that is in order, with more arguments.
Arguments with(const Arguments& more) {
  Arguments all = {"generate", "--model", std::string(kModel), "--prompt", "The cache"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

const Arguments kBroken = {"generate", "--model", std::string(kHere), "--prompt", "The cache"};

/// A small model whose files are in order, but for `tokenizer.json`, which it lacks.
void put_model(const TempFolder& folder) {
  const fs::path model = fs::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
  for (const char* name : {"config.json", "model.safetensors"}) {
    folder.write(name, testing_support::read_file(model / name));
  }
}

auto config_with(const std::string& patch) {
  return [patch](const TempFolder& folder) {
    put_model(folder);
    auto json = nlohmann::json::parse(testing_support::read_file(folder.path() / "config.json"));
    json.merge_patch(nlohmann::json::parse(patch));
    folder.write("config.json", json.dump());
  };
}

auto tensors_with(const std::function<void(std::map<std::string, TensorImage>&)>& tamper) {
  return [tamper](const TempFolder& folder) {
    put_model(folder);
    auto tensors = testing_support::read_tensors(folder.path() / "model.safetensors");
    tamper(tensors);
    folder.write("model.safetensors", testing_support::safetensors_image(tensors));
  };
}

auto weights_with(const std::function<void(std::string&)>& tamper) {
  return [tamper](const TempFolder& folder) {
    put_model(folder);
    std::string image = testing_support::read_file(folder.path() / "model.safetensors");
    tamper(image);
    folder.write("model.safetensors", image);
  };
}

auto tokenizer(const std::string& text) {
  return [text](const TempFolder& folder) {
    put_model(folder);
    folder.write("tokenizer.json", text);
  };
}

auto file(const std::string& name, const std::string& text) {
  return [=](const TempFolder& folder) { folder.write(name, text); };
}

constexpr const char* kQ = "model.layers.0.self_attn.q_proj.weight";

INSTANTIATE_TEST_SUITE_P(
    Models, BadInputs,
    testing::Combine(
        testing::Values(
            BadInput{"NoSuchModel", {"generate", "--model", "no/such", "--prompt", "x"}, "no/such"},
            BadInput{"NoSuchModelForInfo", {"info", "--model", "no/such"}, "no/such"},
            BadInput{"TruncatedWeights", kBroken, "model.safetensors: tensor",
                     weights_with([](std::string& image) { image.resize(image.size() - 1); })},
            BadInput{"EmptyWeights", kBroken, "model.safetensors: 0 bytes are too few",
                     weights_with([](std::string& image) { image.clear(); })},
            BadInput{"HeaderLiesAboutItsLength", kBroken, "model.safetensors: the header claims",
                     weights_with([](std::string& image) { image[7] = '\x01'; })},
            BadInput{"HeaderClaimsLess", kBroken, "model.safetensors: the header is not",
                     weights_with([](std::string& image) { image[0] ^= '\x08'; })},
            BadInput{"OverlappingTensors", kBroken,
                     "model.safetensors: tensors 'a' and 'b' overlap",
                     weights_with([](std::string& image) {
                       image = testing_support::safetensors_image(
                           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                           R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                           "xyz");
                     })},
            BadInput{"WrongDtype", kBroken, "q_proj.weight' is I32",
                     tensors_with([](auto& tensors) { tensors.at(kQ).dtype = "I32"; })},
            BadInput{"WrongShape", kBroken, "q_proj.weight' is F32 [64, 128], expected [128, 64]",
                     tensors_with([](auto& tensors) {
                       tensors.at(kQ).shape = {64, 128};
                     })},
            BadInput{"MissingTensor", kBroken, "q_proj.weight' is missing",
                     tensors_with([](auto& tensors) { tensors.erase(kQ); })},
            BadInput{"ConfigLacksAKey", kBroken, "config.json: key 'hidden_size' is missing",
                     config_with(R"({"hidden_size": null})")},
            BadInput{"UnknownFamily", kBroken, "'gpt2' is not supported (known: llama, mistral",
                     config_with(R"({"model_type": "gpt2"})")},
            BadInput{"MissingTokenizer", kBroken, "tokenizer.json: ", put_model},
            BadInput{"EmptyTokenizer", kBroken, "tokenizer.json: ", tokenizer("")},
            BadInput{"TokenizerWithoutModel", kBroken, "tokenizer.json: ", tokenizer("{}")},
            BadInput{"TokenizerOfUnknownKind", kBroken, "tokenizer.json: ",
                     tokenizer(R"({"model": {"type": "Unigram", "vocab": []}})")}),
        testing::Values(1, 3)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Prompts, BadInputs,
    testing::Combine(
        testing::Values(
            BadInput{"PromptIsNotUtf8",
                     {"generate", "--model", std::string(kModel), "--prompt", "a\xff"},
                     "not UTF-8 at byte 1"},
            BadInput{"EmptyPrompt",
                     {"generate", "--model", std::string(kModel), "--prompt", ""},
                     "the prompt is empty"},
            BadInput{"TwoPrompts", with({"--prompt", "x"}), "--prompt"},
            BadInput{"EmptyStandardInput", {"generate", "--model", std::string(kModel)}, "empty"},
            BadInput{"PromptLongerThanTheContext",
                     {"generate", "--model", std::string(kModel), "--prompt-file", "{here}/long"},
                     "the context of the model is 4096",
                     file("long", std::string(100'000, '\n'))},
            BadInput{"PromptFileMissing",
                     {"generate", "--model", std::string(kModel), "--prompt-file", "no/such"},
                     "no/such: cannot open"},
            BadInput{"PromptAndBatch", with({"--batch", "x", "--output", "y"}),
                     "give one of --prompt, --prompt-file and --batch"},
            BadInput{"BatchMissing",
                     {"generate", "--model", std::string(kModel), "--batch", "no/such", "--output",
                      "{here}/out"},
                     "no/such: cannot open"},
            BadInput{"BatchWithABrokenLine",
                     {"generate", "--model", std::string(kModel), "--batch", "{here}/batch",
                      "--output", "{here}/out"},
                     "batch: line 2: not a JSON object",
                     file("batch", "{\"prompt\": \"a\"}\n{\"prompt\": \n")},
            BadInput{"BatchWithoutAPrompt",
                     {"generate", "--model", std::string(kModel), "--batch", "{here}/batch",
                      "--output", "{here}/out"},
                     "batch: line 1: key 'prompt' is missing",
                     file("batch", "{\"id\": 7}\n")},
            BadInput{"BatchWithAnUnknownKey",
                     {"generate", "--model", std::string(kModel), "--batch", "{here}/batch",
                      "--output", "{here}/out"},
                     "key 'temperature' is unknown",
                     file("batch", "{\"prompt\": \"a\", \"temperature\": 1}\n")},
            BadInput{"BatchWithoutLines",
                     {"generate", "--model", std::string(kModel), "--batch", "{here}/batch",
                      "--output", "{here}/out"},
                     "batch: no prompts",
                     file("batch", "\n\n")},
            BadInput{"BatchWithoutOutput",
                     {"generate", "--model", std::string(kModel), "--batch", "{here}/batch"},
                     "--batch and --output go together",
                     file("batch", "{\"prompt\": \"a\"}\n")},
            BadInput{"OutputWithoutBatch", with({"--output", "{here}/out"}),
                     "--batch and --output go together"},
            BadInput{"OutputCannotBeWritten",
                     {"generate", "--model", std::string(kModel), "--batch", "{here}/batch",
                      "--output", "{here}/no/such"},
                     "no/such: cannot write",
                     file("batch", "{\"prompt\": \"a\"}\n")}),
        testing::Values(1, 3)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Options, BadInputs,
    testing::Combine(
        testing::Values(
            BadInput{"NoProgram",
                     {},
                     "a program is missing (known: generate, eval, bench, bench-decode, codecs, "
                     "calibrate, info"},
            BadInput{"UnknownProgram", {"frobnicate"}, "'frobnicate' is not a program (known: "},
            BadInput{"UnknownFlag", with({"--frobnicate"}), "--frobnicate"},
            BadInput{"NoModel", {"generate", "--prompt", "x"}, "--model is required"},
            BadInput{"MaxTokensZero", with({"--max-tokens", "0"}), "--max-tokens: Value 0"},
            BadInput{"MaxTokensNegative", with({"--max-tokens", "-5"}), "--max-tokens: Value -5"},
            BadInput{"MaxTokensHuge", with({"--max-tokens", "99999999999999999999"}),
                     "--max-tokens: Value 9999"},
            BadInput{"MaxTokensNoNumber", with({"--max-tokens", "many"}), "--max-tokens"},
            BadInput{"ChunkTokensZero", with({"--chunk-tokens", "0"}), "--chunk-tokens"},
            BadInput{"MaxBatchZero", with({"--max-batch", "0"}), "--max-batch"},
            BadInput{"PageSlotsZero", with({"--page-slots", "0"}), "--page-slots"},
            BadInput{"PageSlotsSeventeen", with({"--page-slots", "17"}), "17 slots"},
            BadInput{"ThreadsZero", with({"--threads", "0"}), "--threads"},
            BadInput{"KvShardsZero", with({"--kv-shards", "0"}), "kv-shards: 0"},
            BadInput{"ExchangeUnknown", with({"--exchange", "pigeon"}),
                     "exchange: 'pigeon' is neither auto, "},
            BadInput{"ExchangeOfGpus", with({"--exchange", "peer"}),
                     "exchange: 'peer' does not go between ranks on CPUs"},
            BadInput{"KvMemoryNoSize", with({"--kv-memory", "much"}), "--kv-memory: 'much'"},
            BadInput{"KvMemoryMoreThanAll", with({"--kv-memory", "101%"}), "--kv-memory: '101%'"},
            BadInput{"KvMemoryAShareOnTheCpu", with({"--kv-memory", "80%"}), "kv-memory: 80%"},
            BadInput{"TemperatureNegative", with({"--temperature", "-1"}), "temperature = -1"},
            BadInput{"TemperatureNan", with({"--temperature", "nan"}), "temperature = nan"},
            BadInput{"TopPTwo", with({"--top-p", "2"}), "top-p = 2"},
            BadInput{"TopPZero", with({"--top-p", "0"}), "top-p = 0"},
            BadInput{"TopKNegative", with({"--top-k", "-1"}), "top-k"},
            BadInput{"MinPTwo", with({"--min-p", "2"}), "min-p = 2"},
            BadInput{"RepetitionPenaltyZero", with({"--repetition-penalty", "0"}), "penalty"},
            BadInput{"SeedNoNumber", with({"--seed", "x"}), "--seed"},
            BadInput{"EmptyStopString", with({"--stop", ""}), "a stop string is empty"},
            BadInput{"ReportLayerBeyondTheModel", with({"--report-layer", "99"}), "99"},
            BadInput{"ReportLayerNegative", with({"--report-layer", "-1"}), "-1"},
            // The pool is found too small only when the prompt is in work: a fault, not bad input.
            BadInput{"KvMemoryTooSmall", with({"--kv-memory", "1"}), "the pool is full",
                     [](const TempFolder&) {}, kFault}),
        testing::Values(1, 3)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    OfOneRank, BadInputs,
    testing::Combine(
        testing::Values(
            BadInput{"CalibrateOnAShortText",
                     {"calibrate", "--model", std::string(kModel), "--text-file", "{here}/text",
                      "--output", "{here}/basis"},
                     "text-file: the text has ",
                     file("text", "a few words")},
            BadInput{"CalibrateCentredChannels",
                     {"calibrate", "--model", std::string(kModel), "--text-file", "{here}/text",
                      "--output", "{here}/basis", "--basis", "channels", "--centred"},
                     "channels have no mean taken off",
                     file("text", "a few words")},
            BadInput{"CalibrateWithARankThatIsNoVector",
                     {"calibrate", "--model", std::string(kModel), "--text-file", "{here}/text",
                      "--output", "{here}/basis", "--encoder-width", "8", "--rank", "24"},
                     "rank = 24 is not a multiple of 16 below the head size",
                     file("text", "a few words")},
            BadInput{"CalibrateWithAWidthAndNoRank",
                     {"calibrate", "--model", std::string(kModel), "--text-file", "{here}/text",
                      "--output", "{here}/basis", "--encoder-width", "8"},
                     "--rank",
                     file("text", "a few words")},
            BadInput{"CodecsOfAShortText",
                     {"codecs", "--model", std::string(kModel), "--text-file", "{here}/text"},
                     "text-file: the text has ",
                     file("text", "a few words")}),
        testing::Values(1)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Policies, BadInputs,
    testing::Combine(
        testing::Values(
            BadInput{"UnknownGate", with({"--gate", "x"}), "unknown gate 'x' (known: topk"},
            BadInput{"UnknownKvOwner", with({"--kv-owner", "x"}), "unknown kv-owner 'x' (known: "},
            BadInput{"UnknownPlacement", with({"--placement", "x"}), "'x' (known: contiguous"},
            BadInput{"UnknownCodec", with({"--codec", "x"}), "unknown codec 'x' (known: none"},
            BadInput{"UnknownCodecOfKeys", with({"--codec-k", "x"}), "unknown codec 'x' (known: "},
            BadInput{"CodecGroupThatIsNoVector", with({"--codec", "int4:channels=24"}),
                     "int4: a group of 24 is not a multiple of 16"},
            BadInput{"CodecGroupBeyondThePage", with({"--codec", "int4:slots=32"}),
                     "a group of 32 slots does not divide a page of 16 (--page-slots)"},
            BadInput{"CodecWithoutItsFile", with({"--codec", "lora:rank=16"}),
                     "lora: file=... names the basis"},
            BadInput{"EncoderWithoutItsFile", with({"--codec", "distilled"}),
                     "distilled: file=... names the basis and its encoder"},
            BadInput{"CodecOfAnotherFormat", with({"--codec", "lora:file={here}/basis,rank=16"}),
                     "basis: ", file("basis", "no tensors")},
            BadInput{"CodecsInTheWrongOrder", with({"--codec", "int4+hadamard"}),
                     "coordinates come first"},
            BadInput{
                "TiersWithoutScores", with({"--codec", "pyramid"}),
                "the codec puts slots into tiers by their scores, and this scheduler gives none"},
            BadInput{"TiersThatAreNotAll", with({"--codec", "pyramid:int8=0.5"}),
                     "pyramid: the shares of its tiers add up to 0.5, not to 1"},
            BadInput{"TableOfCodecsOfAnotherFormat", with({"--codec", "auto:file={here}/table"}),
                     "table:1: not 'pikv-codec-table-1 FINGERPRINT", file("table", "int8")},
            BadInput{"TableOfCodecsForAnotherModel", with({"--codec", "auto:file={here}/table"}),
                     "was fitted to model abc of 1 x 1 heads of 8, this is ",
                     file("table", "pikv-codec-table-1 abc 1 1 8\n0 0 int8 int8\n")},
            BadInput{"TableOfCodecsWithoutAnError",
                     {"codecs", "--model", std::string(kModel), "--text-file", "{here}/text",
                      "--output", "{here}/table"},
                     "--output requires --max-output-error"},
            BadInput{"CalibrateWithoutOutput",
                     {"calibrate", "--model", std::string(kModel), "--text-file", "{here}/text"},
                     "--output is required"},
            BadInput{"CodecsWithoutText",
                     {"codecs", "--model", std::string(kModel)},
                     "--text-file is required"},
            BadInput{"UnknownScheduler", with({"--scheduler", ""}), "'' (known: full"},
            BadInput{"UnknownPolicyOption", with({"--codec", "none:bits=4"}),
                     "none: unknown option 'bits' (known: dtype)"},
            BadInput{"PolicyOptionWithoutValue", with({"--codec", "none:dtype"}),
                     "'dtype' is not key=value"},
            BadInput{"PolicyOptionOfAnotherValue", with({"--codec", "none:dtype=f64"}),
                     "dtype = 'f64' is not one of f32, bf16, f16"},
            BadInput{"BudgetZero", with({"--budget", "0"}), "budget: '0' is neither"},
            BadInput{"BudgetAboveOne", with({"--budget", "1.5"}), "budget: '1.5' is neither"},
            BadInput{"BudgetOfNoBytes", with({"--budget", "0K"}), "budget: '0K' is neither"},
            BadInput{"BudgetOfHalfAUnit", with({"--budget", "1.5M"}), "budget: '1.5M' is neither"},
            BadInput{"BudgetOfAnUnknownUnit", with({"--budget", "2Q"}), "budget: '2Q' is neither"},
            BadInput{"SchedulerOptionOutOfRange", with({"--scheduler", "snapkv:window=0"}),
                     "snapkv: window = '0' is not an integer in [1, 65536]"},
            BadInput{"SchedulerOptionUnknown", with({"--scheduler", "knorm:window=3"}),
                     "knorm: unknown option 'window'"},
            BadInput{"TargetOfOneRun", with({"--scheduler", "adakv:target=0.9,when=prefill"}),
                     "with when=prefill there is none"},
            BadInput{"TargetAboveAll", with({"--scheduler", "adakv:target=1.5"}),
                     "adakv: target = '1.5' is not a number in [0.01, 1]"},
            BadInput{"GainWithoutATarget", with({"--scheduler", "adakv:gain=0.5"}),
                     "adakv: unknown option 'gain'"},
            BadInput{"TargetOfScoresWithoutAMass",
                     with({"--scheduler", "adakv:scorer=knorm,target=0.9"}),
                     "adakv: target is a share of attention, which the scorer does not give"},
            BadInput{"EvalUnknownTask",
                     {"eval", "--model", std::string(kModel), "--task", "x"},
                     "unknown task 'x' (known: passkey"},
            BadInput{"TurnsAfterTheQuestion",
                     {"eval", "--model", std::string(kModel), "--update-cache", "--mode", "aware"},
                     "update-cache: the first question is not the only one, so the mode is "
                     "agnostic, not aware"},
            BadInput{"EvalUnknownMode",
                     {"eval", "--model", std::string(kModel), "--mode", "x"},
                     "mode: 'x' is neither agnostic nor aware"},
            BadInput{"EvalUnknownScheduler",
                     {"eval", "--model", std::string(kModel), "--scheduler", "full,x"},
                     "unknown scheduler 'x'"},
            BadInput{"EvalContextTooLongForACellAlone",
                     {"eval", "--model", std::string(kModel), "--length", "5000", "--spread",
                      "cells", "--samples", "1"},
                     "the context of the model is 4096"},
            BadInput{"EvalGapAfterTheQuestion",
                     {"eval", "--model", std::string(kModel), "--gap", "5", "--mode", "aware"},
                     "agnostic"},
            BadInput{"EvalSpreadOfSomethingElse",
                     {"eval", "--model", std::string(kModel), "--spread", "x"},
                     "--spread"},
            BadInput{"EvalPerplexityWithoutText",
                     {"eval", "--model", std::string(kModel), "--task", "perplexity"},
                     "perplexity: it reads a text file, and none is given"},
            BadInput{"EvalPerplexityOfAShortText",
                     {"eval", "--model", std::string(kModel), "--task", "kl", "--text-file",
                      "{here}/text"},
                     "text: no book of 1153 tokens",
                     file("text", "one book")},
            BadInput{"EvalPerplexityAware",
                     {"eval", "--model", std::string(kModel), "--task", "kl", "--mode", "aware"},
                     "kl: it asks no question, so its mode is agnostic, not aware"},
            BadInput{"EvalOutputErrorAware",
                     {"eval", "--model", std::string(kModel), "--task", "output_error", "--mode",
                      "aware"},
                     "output_error: it asks no question, so its mode is agnostic, not aware"},
            BadInput{"EvalOutputErrorWithAnUnknownOption",
                     {"eval", "--model", std::string(kModel), "--task", "output_error:norm=1"},
                     "output_error: unknown option 'norm' (known: continuation)"},
            BadInput{"EvalHitRateOfAStream",
                     {"eval", "--model", std::string(kModel), "--hit-rate", "--stream",
                      "--scheduler", "recency:when=always"},
                     "hit-rate: a sequence that outgrows the model's context has no full cache"},
            BadInput{"EvalPlotFolderIsAFile",
                     {"eval", "--model", std::string(kModel), "--plots", "{here}/file"},
                     "file: cannot write",
                     file("file", "")},
            BadInput{"EvalMapFolderIsAFile",
                     {"eval", "--model", std::string(kModel), "--maps", "{here}/file"},
                     "file: cannot write",
                     file("file", "")},
            BadInput{"EvalMapOfAnEndlessName",
                     {"eval", "--model", std::string(kModel), "--maps", "{here}/maps",
                      "--scheduler", "full,kvzip:prompt=" + std::string(300, 'a')},
                     "maps: cannot write: 'kvzip:prompt=aaaaaaaaaaaaaaaaaaaaaaaaaaa...' makes a "
                     "name of 338 bytes"},
            BadInput{"EvalJsonAndCsv",
                     {"eval", "--model", std::string(kModel), "--json", "--csv"},
                     "--json excludes --csv"},
            BadInput{"UnknownKvDtype", with({"--kv-dtype", "f64"}), "--kv-dtype"}),
        testing::Values(1, 3)),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    ConfigFiles, BadInputs,
    testing::Combine(testing::Values(BadInput{"Missing",
                                              {"--config", "no/such", "info"},
                                              "no/such was not readable"},
                                     BadInput{"UnknownKey",
                                              {"--config", "{here}/pikv.toml", "info"},
                                              "frobnicate",
                                              file("pikv.toml", "frobnicate = 1\n")},
                                     BadInput{"UnknownKeyOfAProgram",
                                              {"--config", "{here}/pikv.toml", "info"},
                                              "frobnicate",
                                              file("pikv.toml", "[info]\nfrobnicate = 1\n")}),
                     testing::Values(1, 3)),
    name_of);

}  // namespace
}  // namespace pikv::launch_test
