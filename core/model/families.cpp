// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/families.hpp"

#include <array>

namespace pikv {
namespace {

constexpr BiasRule kNo{.fallback = false, .key = {}};
constexpr BiasRule kYes{.fallback = true, .key = {}};
constexpr BiasRule kByAttentionBias{.fallback = false, .key = "attention_bias"};

constexpr std::array kFamilies = {
    Family{.name = "llama",
           .qkv_bias = kByAttentionBias,
           .output_bias = kByAttentionBias,
           .mlp_bias = {.fallback = false, .key = "mlp_bias"},
           .qk_norm = QkNorm::kNone,
           .window = WindowRule::kNever,
           .mixture = false},
    Family{.name = "mistral",
           .qkv_bias = kNo,
           .output_bias = kNo,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kNone,
           .window = WindowRule::kEveryLayer,
           .mixture = false},
    Family{.name = "qwen2",
           .qkv_bias = kYes,
           .output_bias = kNo,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kNone,
           .window = WindowRule::kFromMaxWindowLayers,
           .mixture = false},
    Family{.name = "qwen3",
           .qkv_bias = kByAttentionBias,
           .output_bias = kByAttentionBias,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kPerHead,
           .window = WindowRule::kFromMaxWindowLayers,
           .mixture = false},
    Family{.name = "mixtral",
           .qkv_bias = kNo,
           .output_bias = kNo,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kNone,
           .window = WindowRule::kEveryLayer,
           .mixture = true,
           .expert_names = ExpertNames::kBlockSparseMoe,
           .expert_intermediate_key = "intermediate_size",
           .always_renormalize = true},
    Family{.name = "olmoe",
           .qkv_bias = kByAttentionBias,
           .output_bias = kByAttentionBias,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kFullProjection,
           .window = WindowRule::kNever,
           .mixture = true,
           .expert_intermediate_key = "intermediate_size"},
    Family{.name = "qwen2_moe",
           .qkv_bias = {.fallback = true, .key = "qkv_bias"},
           .output_bias = kNo,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kNone,
           .window = WindowRule::kFromMaxWindowLayers,
           .mixture = true,
           .expert_intermediate_key = "moe_intermediate_size",
           .sparse_step = true,
           .shared_expert = true},
    Family{.name = "qwen3_moe",
           .qkv_bias = kByAttentionBias,
           .output_bias = kByAttentionBias,
           .mlp_bias = kNo,
           .qk_norm = QkNorm::kPerHead,
           .window = WindowRule::kEveryLayerIfEnabled,
           .mixture = true,
           .expert_intermediate_key = "moe_intermediate_size",
           .sparse_step = true},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

}  // namespace pikv
