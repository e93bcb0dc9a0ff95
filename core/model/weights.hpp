// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The weights of a decoder: matrices as views into the mapped checkpoint, in their stored type, and
// the small vectors (norms, biases) widened to float32.
#pragma once

#include <optional>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/model/model_config.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// A gated feed-forward network: down(silu(gate x) * up x).
struct MlpWeights {
  WeightView gate;                                   // [intermediate, hidden]
  WeightView up;                                     // [intermediate, hidden]
  WeightView down;                                   // [hidden, intermediate]
  std::vector<float> gate_bias, up_bias, down_bias;  // empty without bias
};

struct AttentionWeights {
  WeightView q;                                       // [H * D, hidden]
  WeightView k;                                       // [Hkv * D, hidden]
  WeightView v;                                       // [Hkv * D, hidden]
  WeightView o;                                       // [hidden, H * D]
  std::vector<float> q_bias, k_bias, v_bias, o_bias;  // empty without bias
  std::vector<float> q_norm, k_norm;                  // [D] or the whole projection; empty without
};

struct MoeWeights {
  WeightView router;                // [E, hidden]
  std::vector<MlpWeights> experts;  // [E]
  std::optional<MlpWeights> shared;
  WeightView shared_gate;  // [1, hidden], with a shared expert
};

struct LayerWeights {
  std::vector<float> attention_norm;  // [hidden]
  AttentionWeights attention;
  std::vector<float> mlp_norm;    // [hidden]
  std::optional<MlpWeights> mlp;  // one of these two
  std::optional<MoeWeights> moe;
};

class ModelWeights {
 public:
  /// Throws BadFile when a tensor is missing or has another shape or type than `config` implies.
  ModelWeights(const std::filesystem::path& directory, const ModelConfig& config);

  [[nodiscard]] const WeightView& embedding() const { return embedding_; }  // [V, hidden]
  [[nodiscard]] const WeightView& lm_head() const { return lm_head_; }      // [V, hidden]
  [[nodiscard]] const std::vector<float>& final_norm() const { return final_norm_; }
  [[nodiscard]] const LayerWeights& layer(LayerId layer) const { return layers_[index(layer)]; }
  [[nodiscard]] std::size_t checkpoint_bytes() const { return checkpoint_.bytes(); }

 private:
  Checkpoint checkpoint_;
  WeightView embedding_;
  WeightView lm_head_;
  std::vector<float> final_norm_;
  std::vector<LayerWeights> layers_;
};

}  // namespace pikv
