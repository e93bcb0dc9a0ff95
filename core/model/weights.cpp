// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/weights.hpp"

#include <fmt/format.h>

#include <string>

namespace pikv {
namespace {

/// Reads the tensors of one layer under their hub names.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, const ModelConfig& config, std::int64_t layer)
      : checkpoint_(checkpoint),
        config_(config),
        prefix_(fmt::format("model.layers.{}.", layer)),
        is_moe_(config.is_moe[static_cast<std::size_t>(layer)]) {}

  LayerWeights read() const {
    LayerWeights layer;
    layer.attention_norm = vector("input_layernorm.weight", config_.hidden_size);
    layer.attention = attention();
    layer.mlp_norm = vector("post_attention_layernorm.weight", config_.hidden_size);
    if (is_moe_) {
      layer.moe = moe();
    } else {
      layer.mlp = mlp("mlp.", config_.intermediate_size);
    }
    return layer;
  }

 private:
  WeightView matrix(const std::string& name, std::int64_t rows, std::int64_t cols) const {
    return checkpoint_.matrix(prefix_ + name, rows, cols);
  }
  std::vector<float> vector(const std::string& name, std::int64_t size) const {
    return checkpoint_.vector(prefix_ + name, size);
  }
  std::vector<float> bias(bool present, const std::string& name, std::int64_t size) const {
    return present ? vector(name, size) : std::vector<float>{};
  }

  AttentionWeights attention() const {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t q_size = config_.num_heads * config_.head_dim;
    const std::int64_t kv_size = config_.num_kv_heads * config_.head_dim;
    AttentionWeights w;
    w.q = matrix("self_attn.q_proj.weight", q_size, hidden);
    w.k = matrix("self_attn.k_proj.weight", kv_size, hidden);
    w.v = matrix("self_attn.v_proj.weight", kv_size, hidden);
    w.o = matrix("self_attn.o_proj.weight", hidden, q_size);
    w.q_bias = bias(config_.qkv_bias, "self_attn.q_proj.bias", q_size);
    w.k_bias = bias(config_.qkv_bias, "self_attn.k_proj.bias", kv_size);
    w.v_bias = bias(config_.qkv_bias, "self_attn.v_proj.bias", kv_size);
    w.o_bias = bias(config_.output_bias, "self_attn.o_proj.bias", hidden);
    if (config_.qk_norm != QkNorm::kNone) {
      const bool per_head = config_.qk_norm == QkNorm::kPerHead;
      w.q_norm = vector("self_attn.q_norm.weight", per_head ? config_.head_dim : q_size);
      w.k_norm = vector("self_attn.k_norm.weight", per_head ? config_.head_dim : kv_size);
    }
    return w;
  }

  MlpWeights mlp(const std::string& name, std::int64_t intermediate) const {
    return gated(name + "gate_proj", name + "up_proj", name + "down_proj", intermediate,
                 config_.mlp_bias);
  }

  MlpWeights gated(const std::string& gate, const std::string& up, const std::string& down,
                   std::int64_t intermediate, bool has_bias) const {
    return {.gate = matrix(gate + ".weight", intermediate, config_.hidden_size),
            .up = matrix(up + ".weight", intermediate, config_.hidden_size),
            .down = matrix(down + ".weight", config_.hidden_size, intermediate),
            .gate_bias = bias(has_bias, gate + ".bias", intermediate),
            .up_bias = bias(has_bias, up + ".bias", intermediate),
            .down_bias = bias(has_bias, down + ".bias", config_.hidden_size)};
  }

  MoeWeights moe() const {
    MoeWeights w;
    const bool block_sparse = config_.expert_names == ExpertNames::kBlockSparseMoe;
    const std::string base = block_sparse ? "block_sparse_moe." : "mlp.";
    w.router = matrix(base + "gate.weight", config_.num_experts, config_.hidden_size);
    for (std::int64_t e = 0; e < config_.num_experts; ++e) {
      const std::string expert = fmt::format("{}experts.{}.", base, e);
      w.experts.push_back(block_sparse ? gated(expert + "w1", expert + "w3", expert + "w2",
                                               config_.expert_intermediate_size, false)
                                       : mlp(expert, config_.expert_intermediate_size));
    }
    if (config_.shared_expert_intermediate_size > 0) {
      w.shared = mlp(base + "shared_expert.", config_.shared_expert_intermediate_size);
      w.shared_gate = matrix(base + "shared_expert_gate.weight", 1, config_.hidden_size);
    }
    return w;
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  std::string prefix_;
  bool is_moe_;
};

}  // namespace

ModelWeights::ModelWeights(const std::filesystem::path& directory, const ModelConfig& config)
    : checkpoint_(directory) {
  embedding_ =
      checkpoint_.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  // A checkpoint that ties the two need not store the head, and the stored one is ignored, as the
  // hub implementation does.
  lm_head_ = config.tie_word_embeddings
                 ? embedding_
                 : checkpoint_.matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  final_norm_ = checkpoint_.vector("model.norm.weight", config.hidden_size);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    layers_.push_back(LayerReader(checkpoint_, config, layer).read());
  }
}

}  // namespace pikv
