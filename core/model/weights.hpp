// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The weights of a decoder, as views: matrices in their stored type, in the mapped checkpoint or on
// a GPU, and the small vectors (norms, biases) widened to float32.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/model/model_config.hpp"
#include "core/policy/shard_map.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/view.hpp"
#include "kernels/experts.hpp"

namespace pikv {

using WeightVector = std::span<const float>;

/// What operations take for one that may be missing.
[[nodiscard]] inline const float* data_or_null(WeightVector vector) {
  return vector.empty() ? nullptr : vector.data();
}

/// A gated feed-forward network: down(silu(gate x) * up x).
struct MlpWeights {
  WeightView gate;                             // [intermediate, hidden]
  WeightView up;                               // [intermediate, hidden]
  WeightView down;                             // [hidden, intermediate]
  WeightVector gate_bias, up_bias, down_bias;  // empty without bias
};

struct AttentionWeights {
  WeightView q;                                 // [H * D, hidden]
  WeightView k;                                 // [Hkv * D, hidden]
  WeightView v;                                 // [Hkv * D, hidden]
  WeightView o;                                 // [hidden, H * D]
  WeightVector q_bias, k_bias, v_bias, o_bias;  // empty without bias
  WeightVector q_norm, k_norm;                  // [D] or the whole projection; empty without
};

struct MoeWeights {
  WeightView router;                // [E, hidden]
  std::vector<MlpWeights> experts;  // [E]
  std::optional<MlpWeights> shared;
  WeightView shared_gate;  // [1, hidden], with a shared expert
  /// The experts as the GPU names them to itself, [E]; empty on the host.
  View<const kernels::ExpertMatrices, 1> table{};
};

struct LayerWeights {
  WeightVector attention_norm;  // [hidden]
  AttentionWeights attention;
  WeightVector mlp_norm;          // [hidden]
  std::optional<MlpWeights> mlp;  // one of these two
  std::optional<MoeWeights> moe;
};

class ModelWeights {
 public:
  /// Throws BadFile when a tensor is missing or has another shape or type than `config` implies.
  ModelWeights(const std::filesystem::path& directory, const ModelConfig& config);

  /// Of the config's shape, in the memory of the Exec, of the experts those of this rank: bench
  /// without a checkpoint.
  [[nodiscard]] static ModelWeights random(Exec& exec, const ModelConfig& config, DType dtype,
                                           std::uint64_t seed, const ShardMap& expert_map,
                                           int rank);

  /// The same in the memory of a GPU, of the experts those of this rank; the others have no data.
  /// Throws OutOfMemory with the bytes that are missing.
  [[nodiscard]] ModelWeights on_device(Exec& exec, const ShardMap& expert_map, int rank) const;

  [[nodiscard]] const WeightView& embedding() const { return embedding_; }  // [V, hidden]
  [[nodiscard]] const WeightView& lm_head() const { return lm_head_; }      // [V, hidden]
  [[nodiscard]] WeightVector final_norm() const { return final_norm_; }
  [[nodiscard]] const LayerWeights& layer(LayerId layer) const { return layers_[index(layer)]; }
  /// Of the files; none on a GPU.
  [[nodiscard]] std::size_t checkpoint_bytes() const {
    return checkpoint_ ? checkpoint_->bytes() : 0;
  }

 private:
  ModelWeights() = default;
  void make_tables(Exec& exec);

  // What the views point to: a checkpoint and vectors, or blocks.
  std::optional<Checkpoint> checkpoint_;
  std::vector<std::vector<float>> vectors_;
  std::vector<DeviceBuffer<std::byte>> blocks_;
  DeviceBuffer<kernels::ExpertMatrices> tables_{Device::kCpu};  // [mixture layers, E]

  WeightView embedding_;
  WeightView lm_head_;
  WeightVector final_norm_;
  std::vector<LayerWeights> layers_;
};

}  // namespace pikv
