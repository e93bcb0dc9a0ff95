// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What sets one model family apart from another, as data.
#pragma once

#include <span>
#include <string_view>

#include "core/model/model_config.hpp"

namespace pikv {

/// Which layers a sliding window applies to, when config.json has no layer_types.
enum class WindowRule : std::uint8_t {
  kEveryLayer,           // when sliding_window is set
  kEveryLayerIfEnabled,  // when use_sliding_window is true too
  kFromMaxWindowLayers,  // then only layers from max_window_layers on
  kNever,
};

/// A bias that is fixed by the family or read from a key of config.json.
struct BiasRule {
  bool fallback;
  std::string_view key;  // empty: fixed
};

struct Family {
  std::string_view name;  // model_type
  BiasRule qkv_bias;
  BiasRule output_bias;
  BiasRule mlp_bias;
  QkNorm qk_norm;
  WindowRule window;
  bool mixture;
  // Mixtures only:
  ExpertNames expert_names = ExpertNames::kMlp;
  std::string_view expert_intermediate_key = {};
  bool always_renormalize = false;  // otherwise norm_topk_prob, false when absent
  bool sparse_step = false;         // decoder_sparse_step and mlp_only_layers choose the layers
  bool shared_expert = false;
};

[[nodiscard]] std::span<const Family> families();

}  // namespace pikv
