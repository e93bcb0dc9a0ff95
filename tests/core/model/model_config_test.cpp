// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/model_config.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/core/model/config_folder.hpp"
#include "tests/support/bad_file.hpp"

namespace pikv {
namespace {

using testing_support::expect_bad_file;
using testing_support::read_patched;
using testing_support::TempFolder;

constexpr const char* kFile = "config.json";

void expect_refused(std::string_view family, std::string_view patch, std::string_view reason) {
  SCOPED_TRACE(testing::Message() << family << " with " << patch);
  expect_bad_file([&] { (void)read_patched(family, patch); }, kFile, reason);
}

TEST(ModelConfig, ReadsEveryFamily) {
  for (const std::string& family : family_names()) {
    SCOPED_TRACE(family);
    const ModelConfig config = read_patched(family);
    EXPECT_EQ(config.family, family);
    EXPECT_EQ(config.vocab_size, 384);
    EXPECT_EQ(config.hidden_size, 64);
    EXPECT_EQ(config.num_layers, 3);
    EXPECT_EQ(config.num_heads, 4);
    EXPECT_EQ(config.context_tokens, 256);
    EXPECT_EQ(config.rms_norm_eps, 1e-6f);
    EXPECT_EQ(config.rope.theta, family == "mixtral" ? 1e6 : 1e4);
    EXPECT_EQ(config.end_of_text, std::vector<TokenId>{2});
    EXPECT_EQ(config.stored_dtype, "float32");
    EXPECT_EQ(config.windows.size(), 3u);
    EXPECT_EQ(config.is_moe.size(), 3u);
  }
}

TEST(ModelConfig, BothGenerationsOfRopeKeysMeanTheSame) {
  const ModelConfig old_keys = read_patched("llama", R"({"rope_parameters": null,
      "rope_theta": 500000, "rope_scaling": {"type": "linear", "factor": 4}})");
  const ModelConfig new_keys = read_patched("llama", R"({"rope_parameters": {
      "rope_theta": 500000, "rope_type": "linear", "factor": 4}})");
  for (const ModelConfig& config : {old_keys, new_keys}) {
    EXPECT_EQ(config.rope.kind, RopeConfig::Kind::kLinear);
    EXPECT_EQ(config.rope.theta, 500000.0);
    EXPECT_EQ(config.rope.factor, 4.0);
  }
  const ModelConfig plain = read_patched(
      "llama", R"({"rope_parameters": null, "rope_theta": 1000, "rope_scaling": null})");
  EXPECT_EQ(plain.rope.kind, RopeConfig::Kind::kDefault);
  EXPECT_EQ(plain.rope.theta, 1000.0);
}

TEST(ModelConfig, BothNamesOfTheNumberOfExpertsAreKnown) {
  for (const char* family : {"mixtral", "olmoe", "qwen2_moe", "qwen3_moe"}) {
    for (const char* patch : {R"({"num_experts": 6, "num_local_experts": null})",
                              R"({"num_experts": null, "num_local_experts": 6})"}) {
      EXPECT_EQ(read_patched(family, patch).num_experts, 6) << family << patch;
    }
  }
}

TEST(ModelConfig, BothNamesOfTheTypeAreKnown) {
  EXPECT_EQ(read_patched("llama", R"({"dtype": "float16"})").stored_dtype, "float16");
  EXPECT_EQ(read_patched("llama", R"({"dtype": null, "torch_dtype": "bfloat16"})").stored_dtype,
            "bfloat16");
  EXPECT_EQ(read_patched("llama", R"({"dtype": null})").stored_dtype, "unknown");
}

TEST(ModelConfig, WhatMayBeLeftOutHasTheHubsDefault) {
  const ModelConfig config = read_patched(
      "llama", R"({"num_key_value_heads": null, "head_dim": null, "tie_word_embeddings": null,
                   "attention_bias": null, "hidden_act": null, "eos_token_id": null})");
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_TRUE(config.end_of_text.empty());
}

TEST(ModelConfig, EachNeededKeyIsMissedByName) {
  for (const char* key :
       {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "max_position_embeddings", "rms_norm_eps"}) {
    for (const char* family : {"llama", "qwen3_moe"}) {
      expect_refused(family, std::string("{\"") + key + "\": null}",
                     std::string("key '") + key + "' is missing");
    }
  }
  expect_refused("llama", R"({"rope_parameters": null})", "key 'rope_theta' is missing");
  expect_refused("llama", R"({"rope_parameters": {"rope_theta": null}})", "'rope_theta'");
  for (const char* key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    expect_refused("llama", std::string("{\"rope_parameters\": {\"") + key + "\": null}}",
                   std::string("rope_parameters: key '") + key + "' is missing");
  }
  for (const char* family : {"mixtral", "olmoe", "qwen2_moe", "qwen3_moe"}) {
    expect_refused(family, R"({"num_experts": null, "num_local_experts": null})",
                   "key 'num_experts' or 'num_local_experts' is missing");
    expect_refused(family, R"({"num_experts_per_tok": null})", "'num_experts_per_tok' is missing");
  }
  expect_refused("qwen3_moe", R"({"moe_intermediate_size": null})", "is missing");
  expect_refused("qwen2_moe", R"({"shared_expert_intermediate_size": null})", "is missing");
}

TEST(ModelConfig, WrongTypesAreRefused) {
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "head_dim",
                          "num_attention_heads", "num_key_value_heads"}) {
    for (const char* value : {"\"64\"", "64.0", "true", "[64]", "{}"}) {
      expect_refused("llama", std::string("{\"") + key + "\": " + value + "}", "is not an integer");
    }
  }
  expect_refused("llama", R"({"rms_norm_eps": "1e-6"})", "is not a number");
  expect_refused("llama", R"({"rope_parameters": 7})", "is not an object");
  expect_refused("llama", R"({"rope_parameters": {"rope_theta": "x"}})", "is not a number");
  expect_refused("llama", R"({"model_type": 7})", "is not a string");
  expect_refused("llama", R"({"hidden_act": 7})", "is not a string");
  expect_refused("llama", R"({"dtype": 7})", "is not a string");
  expect_refused("llama", R"({"tie_word_embeddings": 1})", "is not true or false");
  expect_refused("llama", R"({"attention_bias": "no"})", "is not true or false");
  expect_refused("llama", R"({"eos_token_id": "2"})", "'eos_token_id'");
  expect_refused("llama", R"({"eos_token_id": [2, 2.5]})", "'eos_token_id'");
  expect_refused("qwen3_moe", R"({"mlp_only_layers": "1"})", "'mlp_only_layers'");
  expect_refused("qwen3_moe", R"({"norm_topk_prob": 1})", "is not true or false");
  expect_refused("mistral", R"({"sliding_window": "8"})", "is not an integer");
}

TEST(ModelConfig, ImpossibleValuesAreRefused) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "max_position_embeddings"}) {
    for (const char* value : {"0", "-1", "9223372036854775807"}) {
      expect_refused("llama", std::string("{\"") + key + "\": " + value + "}", "is outside [1, ");
    }
  }
  expect_refused("llama", R"({"num_key_value_heads": 3})", "not a multiple");
  expect_refused("llama", R"({"num_key_value_heads": 0})", "not a multiple");
  expect_refused("llama", R"({"num_key_value_heads": -2})", "not a multiple");
  expect_refused("llama", R"({"num_key_value_heads": 8})", "not a multiple");
  for (const char* head_dim : {"0", "-2", "15", "1026"}) {
    expect_refused("llama", std::string("{\"head_dim\": ") + head_dim + "}", "not an even number");
  }
  expect_refused("llama", R"({"head_dim": null, "hidden_size": 3})", "head_dim = 0");
  expect_refused("llama", R"({"rms_norm_eps": -1e-6})", "rms_norm_eps");
  expect_refused("llama", R"({"rms_norm_eps": 1e300})", "rms_norm_eps");
  for (const char* theta : {"0", "-1", "1e300", "1e-300"}) {
    expect_refused("llama", std::string(R"({"rope_parameters": {"rope_theta": )") + theta + "}}",
                   "rope_theta = ");
  }
  for (const char* factor : {"0", "-8", "1e300"}) {
    expect_refused("llama", std::string(R"({"rope_parameters": {"factor": )") + factor + "}}",
                   "factor = ");
  }
  for (const char* patch :
       {R"({"low_freq_factor": 0})", R"({"low_freq_factor": 4})", R"({"high_freq_factor": 0.5})",
        R"({"original_max_position_embeddings": 0})"}) {
    expect_refused("llama", std::string(R"({"rope_parameters": )") + patch + "}",
                   "llama3 scaling needs");
  }
  expect_refused("olmoe", R"({"clip_qkv": 0})", "clip_qkv = 0");
  expect_refused("olmoe", R"({"clip_qkv": -1})", "clip_qkv = -1");
  expect_refused("olmoe", R"({"clip_qkv": 1e300})", "clip_qkv = ");
  expect_refused("olmoe", R"({"num_experts": 0})", "is outside [1, 1024]");
  expect_refused("olmoe", R"({"num_experts_per_tok": 9})", "is outside [1, 8]");
  expect_refused("olmoe", R"({"num_experts_per_tok": 0})", "is outside [1, 8]");
  expect_refused("qwen3_moe", R"({"decoder_sparse_step": 0})", "decoder_sparse_step");
  expect_refused("llama", R"({"eos_token_id": 384})", "outside the vocabulary of 384");
  expect_refused("llama", R"({"eos_token_id": [2, -1]})", "outside the vocabulary of 384");
}

TEST(ModelConfig, AnUnknownFamilyListsTheKnown) {
  std::string known = "(known: ";
  for (const std::string& family : family_names()) known += family + ", ";
  known.replace(known.size() - 2, 2, ")");
  expect_refused("llama", R"({"model_type": "gpt2"})",
                 "model_type 'gpt2' is not supported " + known);
  expect_refused("llama", R"({"model_type": ""})", known);
}

TEST(ModelConfig, WhatWeDoNotComputeIsRefused) {
  for (const char* kind : {"yarn", "dynamic", "longrope", ""}) {
    expect_refused("llama", std::string(R"({"rope_parameters": {"rope_type": ")") + kind + "\"}}",
                   "is not supported (known: default, linear, llama3)");
  }
  expect_refused("llama", R"({"hidden_act": "gelu"})",
                 "hidden_act 'gelu' is not supported (known: silu)");
}

TEST(ModelConfig, TheEndOfTextMayBeAList) {
  EXPECT_EQ(read_patched("llama", R"({"eos_token_id": 0})").end_of_text, std::vector<TokenId>{0});
  EXPECT_EQ(read_patched("llama", R"({"eos_token_id": [5, 383]})").end_of_text,
            (std::vector<TokenId>{5, 383}));
}

TEST(ModelConfig, GenerationConfigOverridesTheEndOfText) {
  const TempFolder folder;
  folder.write(kFile, testing_support::patched_config("llama", R"({"eos_token_id": 1})").dump());
  const auto end_with = [&](std::string_view text) {
    folder.write("generation_config.json", text);
    return read_model_config(folder.path()).end_of_text;
  };
  EXPECT_EQ(end_with(R"({"eos_token_id": [3, 4]})"), (std::vector<TokenId>{3, 4}));
  EXPECT_EQ(end_with(R"({"eos_token_id": null})"), std::vector<TokenId>{1});
  EXPECT_EQ(end_with("{}"), std::vector<TokenId>{1});
  expect_bad_file([&] { (void)end_with("["); }, "generation_config.json", "not a JSON object");
  expect_bad_file([&] { (void)end_with(R"({"eos_token_id": 999})"); }, "generation_config.json",
                  "outside the vocabulary");
}

TEST(ModelConfig, MixturesSayWhichLayersHaveExperts) {
  const auto layers = [](const char* family, const char* patch) {
    return read_patched(family, patch).is_moe;
  };
  EXPECT_EQ(layers("llama", "{}"), (std::vector<bool>{false, false, false}));
  EXPECT_EQ(layers("mixtral", R"({"decoder_sparse_step": 2})"),
            (std::vector<bool>{true, true, true}));
  EXPECT_EQ(layers("qwen3_moe", "{}"), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(layers("qwen3_moe", R"({"mlp_only_layers": [0, 2]})"),
            (std::vector<bool>{false, true, false}));
  EXPECT_EQ(layers("qwen2_moe", R"({"decoder_sparse_step": 2})"),
            (std::vector<bool>{false, true, false}));
  EXPECT_EQ(layers("qwen2_moe", R"({"decoder_sparse_step": null})"),
            (std::vector<bool>{true, true, true}));
}

TEST(ModelConfig, RenormalisesTheGateAsTheFamilyDoes) {
  EXPECT_TRUE(read_patched("mixtral").renormalize_gate);
  EXPECT_FALSE(read_patched("olmoe").renormalize_gate);
  EXPECT_TRUE(read_patched("olmoe", R"({"norm_topk_prob": true})").renormalize_gate);
  EXPECT_TRUE(read_patched("qwen3_moe").renormalize_gate);
  EXPECT_FALSE(read_patched("qwen3_moe", R"({"norm_topk_prob": null})").renormalize_gate);
}

TEST(ModelConfig, CountsTheBytesOfKeysAndValuesOfAToken) {
  // 3 layers of keys and values, 2 heads of 16 elements of 2 bytes.
  EXPECT_EQ(read_patched("llama").kv_bytes_per_token(2), 3 * 2 * 2 * 16 * 2);
}

}  // namespace
}  // namespace pikv
