// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a decoder model is, read from the config.json of a hub checkpoint. One description serves
// all families; what sets a family apart is a row of core/model/families.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

/// Normalisation of queries and keys before RoPE.
enum class QkNorm : std::uint8_t {
  kNone,
  kPerHead,         // over each head (Qwen3)
  kFullProjection,  // over the whole projection (OLMoE)
};

/// Where the feed-forward weights of a mixture lie in the checkpoint.
enum class ExpertNames : std::uint8_t {
  kMlp,             // mlp.gate, mlp.experts.N.{gate,up,down}_proj
  kBlockSparseMoe,  // block_sparse_moe.gate, block_sparse_moe.experts.N.{w1,w3,w2}
};

/// Frequencies of the rotary embedding (Su et al. 2021, 2104.09864).
struct RopeConfig {
  enum class Kind : std::uint8_t { kDefault, kLinear, kLlama3 };
  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;            // kLinear, kLlama3
  double low_freq_factor = 1.0;   // kLlama3
  double high_freq_factor = 4.0;  // kLlama3
  double original_context = 0;    // kLlama3, tokens
};

struct ModelConfig {
  std::string family;  // config.json's model_type
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;  // of dense layers
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t context_tokens = 0;
  float rms_norm_eps = 0;
  RopeConfig rope;
  bool tie_word_embeddings = false;

  bool qkv_bias = false;
  bool output_bias = false;  // of the attention's output projection
  bool mlp_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  std::optional<float> clip_qkv;
  /// Sliding window of each layer in tokens; nothing where a layer reads everything.
  std::vector<std::optional<std::int32_t>> windows;

  // The mixture. num_experts is 0 in a dense model; is_moe says which layers have experts.
  std::int64_t num_experts = 0;
  std::int64_t experts_per_token = 0;
  std::int64_t expert_intermediate_size = 0;
  std::int64_t shared_expert_intermediate_size = 0;  // 0: no shared expert
  bool renormalize_gate = false;
  ExpertNames expert_names = ExpertNames::kMlp;
  std::vector<bool> is_moe;

  std::vector<TokenId> end_of_text;  // any of these ends a sequence
  std::string stored_dtype;          // of the weights, as the config says: "bfloat16"

  /// Bytes of keys and values that one token adds over all layers, at `bytes_per_element`.
  [[nodiscard]] std::int64_t kv_bytes_per_token(std::int64_t bytes_per_element) const {
    return 2 * num_layers * num_kv_heads * head_dim * bytes_per_element;
  }
  [[nodiscard]] bool is_mixture() const { return num_experts > 0; }
};

/// Reads config.json (and generation_config.json, if it is there) of a model directory. Throws
/// BadFile for a missing key, an impossible value, or a family that is not in the table.
[[nodiscard]] ModelConfig read_model_config(const std::filesystem::path& directory);

/// Inverse frequencies, [head_dim / 2], in float32 as the hub computes them.
[[nodiscard]] std::vector<float> inverse_frequencies(const ModelConfig& config);

/// The families that can be loaded.
[[nodiscard]] std::vector<std::string> family_names();

}  // namespace pikv
