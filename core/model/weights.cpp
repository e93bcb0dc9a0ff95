// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/weights.hpp"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "core/model/weight_source.hpp"

namespace pikv {
namespace {

/// Which expert of which layer is read.
struct ExpertsHere {
  const ShardMap* map = nullptr;  // null: all of them
  int rank = 0;

  [[nodiscard]] bool has(std::int64_t layer, std::int64_t expert) const {
    return map == nullptr ||
           map->rank_of(id_from<LayerId>(layer), id_from<ShardId>(expert)) == rank;
  }
};

/// Reads the tensors of one layer.
class LayerReader {
 public:
  LayerReader(WeightSource& source, const ModelConfig& config, std::int64_t layer,
              const ExpertsHere& here)
      : source_(source),
        config_(config),
        layer_(layer),
        here_(here),
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
  WeightView matrix(const std::string& name, std::int64_t rows, std::int64_t cols,
                    bool is_here = true) const {
    return is_here ? source_.matrix(prefix_ + name, rows, cols)
                   : source_.absent(prefix_ + name, rows, cols);
  }
  WeightVector vector(const std::string& name, std::int64_t size) const {
    return source_.vector(prefix_ + name, size);
  }
  WeightVector bias(bool present, const std::string& name, std::int64_t size) const {
    return present ? vector(name, size) : WeightVector{};
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

  MlpWeights mlp(const std::string& name, std::int64_t intermediate, bool is_here = true) const {
    return gated(name + "gate_proj", name + "up_proj", name + "down_proj", intermediate,
                 config_.mlp_bias, is_here);
  }

  MlpWeights gated(const std::string& gate, const std::string& up, const std::string& down,
                   std::int64_t intermediate, bool has_bias, bool is_here) const {
    return {.gate = matrix(gate + ".weight", intermediate, config_.hidden_size, is_here),
            .up = matrix(up + ".weight", intermediate, config_.hidden_size, is_here),
            .down = matrix(down + ".weight", config_.hidden_size, intermediate, is_here),
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
      const std::int64_t width = config_.expert_intermediate_size;
      const bool is_here = here_.has(layer_, e);
      w.experts.push_back(block_sparse ? gated(expert + "w1", expert + "w3", expert + "w2", width,
                                               /*has_bias=*/false, is_here)
                                       : mlp(expert, width, is_here));
    }
    if (config_.shared_expert_intermediate_size > 0) {
      w.shared = mlp(base + "shared_expert.", config_.shared_expert_intermediate_size);
      w.shared_gate = matrix(base + "shared_expert_gate.weight", 1, config_.hidden_size);
    }
    return w;
  }

  WeightSource& source_;
  const ModelConfig& config_;
  std::int64_t layer_;
  ExpertsHere here_;
  std::string prefix_;
  bool is_moe_;
};

/// Calls `f` for every matrix and vector that is there.
template <class F>
void for_each(MlpWeights& w, const F& f) {
  for (WeightView* matrix : {&w.gate, &w.up, &w.down}) f(*matrix);
  for (WeightVector* vector : {&w.gate_bias, &w.up_bias, &w.down_bias}) f(*vector);
}

template <class F>
void for_each(LayerWeights& w, const F& f) {
  AttentionWeights& a = w.attention;
  for (WeightView* matrix : {&a.q, &a.k, &a.v, &a.o}) f(*matrix);
  for (WeightVector* vector : {&w.attention_norm, &w.mlp_norm, &a.q_bias, &a.k_bias, &a.v_bias,
                               &a.o_bias, &a.q_norm, &a.k_norm}) {
    f(*vector);
  }
  if (w.mlp) for_each(*w.mlp, f);
  if (!w.moe) return;
  f(w.moe->router);
  for (MlpWeights& expert : w.moe->experts) for_each(expert, f);
  if (!w.moe->shared) return;
  for_each(*w.moe->shared, f);
  f(w.moe->shared_gate);
}

/// Lays weights one after another into a buffer on the GPU: first counts, then copies.
class DeviceArena {
 public:
  static constexpr std::size_t kAlignment = 256;

  void operator()(WeightView& matrix) { place(matrix.data, matrix.bytes()); }
  void operator()(WeightVector& vector) {
    const void* data = vector.data();
    place(data, vector.size_bytes());
    vector = {static_cast<const float*>(data), vector.size()};
  }

  [[nodiscard]] std::size_t size() const { return used_; }
  /// From now on, weights are copied there.
  void fill(Exec& exec, std::byte* buffer) {
    exec_ = &exec;
    buffer_ = buffer;
    used_ = 0;
  }

 private:
  void place(const void*& data, std::size_t bytes) {
    if (data == nullptr || bytes == 0) return;
    if (buffer_ != nullptr) {
      copy_bytes(*exec_, buffer_ + used_, Device::kCuda, data, Device::kCpu, bytes);
      data = buffer_ + used_;
    }
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

  Exec* exec_ = nullptr;
  std::byte* buffer_ = nullptr;
  std::size_t used_ = 0;
};

struct Tensors {
  WeightView embedding;
  WeightView lm_head;
  WeightVector final_norm;
  std::vector<LayerWeights> layers;
};

Tensors read_all(WeightSource& source, const ModelConfig& config, const ExpertsHere& here = {}) {
  Tensors to;
  to.embedding = source.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  // A checkpoint that ties the two need not store the head, and the stored one is ignored, as the
  // hub implementation does.
  to.lm_head = config.tie_word_embeddings
                   ? to.embedding
                   : source.matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  to.final_norm = source.vector("model.norm.weight", config.hidden_size);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    to.layers.push_back(LayerReader(source, config, layer, here).read());
  }
  return to;
}

}  // namespace

ModelWeights::ModelWeights(const std::filesystem::path& directory, const ModelConfig& config)
    : checkpoint_(directory) {
  CheckpointSource source(*checkpoint_, vectors_);
  auto [embedding, lm_head, final_norm, layers] = read_all(source, config);
  embedding_ = embedding;
  lm_head_ = lm_head;
  final_norm_ = final_norm;
  layers_ = std::move(layers);
}

ModelWeights ModelWeights::random(Exec& exec, const ModelConfig& config, DType dtype,
                                  std::uint64_t seed, const ShardMap& expert_map, int rank) {
  ModelWeights weights;
  RandomSource source(exec, dtype, seed, weights.blocks_);
  auto [embedding, lm_head, final_norm, layers] =
      read_all(source, config, {.map = &expert_map, .rank = rank});
  weights.embedding_ = embedding;
  weights.lm_head_ = lm_head;
  weights.final_norm_ = final_norm;
  weights.layers_ = std::move(layers);
  if (exec.device() == Device::kCuda) weights.make_tables(exec);
  return weights;
}

ModelWeights ModelWeights::on_device(Exec& exec, const ShardMap& expert_map, int rank) const {
  ModelWeights copy;
  copy.embedding_ = embedding_;
  copy.lm_head_ = lm_head_;
  copy.final_norm_ = final_norm_;
  copy.layers_ = layers_;
  for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
    if (!copy.layers_[layer].moe) continue;
    std::vector<MlpWeights>& experts = copy.layers_[layer].moe->experts;
    for (std::size_t e = 0; e < experts.size(); ++e) {
      const bool here = expert_map.rank_of(id_from<LayerId>(layer), id_from<ShardId>(e)) == rank;
      if (here) continue;
      for (WeightView* matrix : {&experts[e].gate, &experts[e].up, &experts[e].down}) {
        matrix->data = nullptr;
      }
    }
  }
  const bool is_tied = lm_head_.data == embedding_.data;
  const auto visit = [&](DeviceArena& arena) {
    arena(copy.embedding_);
    if (!is_tied) arena(copy.lm_head_);
    arena(copy.final_norm_);
    for (LayerWeights& layer : copy.layers_) for_each(layer, [&](auto& weight) { arena(weight); });
  };
  DeviceArena arena;
  visit(arena);
  arena.fill(exec, copy.blocks_.emplace_back(exec.device(), arena.size()).data());
  visit(arena);
  if (is_tied) copy.lm_head_ = copy.embedding_;
  copy.make_tables(exec);
  return copy;
}

void ModelWeights::make_tables(Exec& exec) {
  std::vector<kernels::ExpertMatrices> rows;
  for (const LayerWeights& layer : layers_) {
    if (!layer.moe) continue;
    for (const MlpWeights& w : layer.moe->experts) {
      rows.push_back({.gate = w.gate.data,
                      .up = w.up.data,
                      .down = w.down.data,
                      .gate_bias = data_or_null(w.gate_bias),
                      .up_bias = data_or_null(w.up_bias),
                      .down_bias = data_or_null(w.down_bias)});
    }
  }
  tables_ = DeviceBuffer<kernels::ExpertMatrices>(exec.device(), rows.size());
  copy_bytes(exec, tables_.data(), exec.device(), rows.data(), Device::kCpu,
             rows.size() * sizeof(kernels::ExpertMatrices));
  const kernels::ExpertMatrices* next = tables_.data();
  for (LayerWeights& layer : layers_) {
    if (!layer.moe) continue;
    layer.moe->table = {next, {std::ssize(layer.moe->experts)}};
    next += layer.moe->experts.size();
  }
}

}  // namespace pikv
