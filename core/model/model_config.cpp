// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/model_config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/io/json_file.hpp"
#include "core/model/families.hpp"

namespace pikv {
namespace {

// Larger than any model; keeps products of sizes far from overflow.
constexpr std::int64_t kMaxSize = 1 << 24;

const Family& find_family(const JsonObject& json) {
  const std::string name = json.string({"model_type"});
  const auto found = std::ranges::find(families(), name, &Family::name);
  if (found == families().end()) {
    json.fail(fmt::format("model_type '{}' is not supported (known: {})", name,
                          fmt::join(family_names(), ", ")));
  }
  return *found;
}

/// `value` as float32; it must be positive there too.
float positive_float(const JsonObject& json, std::string_view key, double value) {
  if (!(value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max())) {
    json.fail(fmt::format("{} = {} is not a positive float32", key, value));
  }
  return static_cast<float>(value);
}

bool read_bias(const JsonObject& json, const BiasRule& rule) {
  return rule.key.empty() ? rule.fallback : json.boolean_or(rule.key, rule.fallback);
}

RopeConfig read_rope(const JsonObject& json) {
  RopeConfig rope;
  // Two generations: rope_theta beside rope_scaling, and both inside rope_parameters.
  auto nested = json.optional_object("rope_parameters");
  if (!nested) nested = json.optional_object("rope_scaling");
  const JsonObject& parameters = nested ? *nested : json;
  if (const auto theta = parameters.optional_number({"rope_theta"})) {
    rope.theta = *theta;
  } else if (const auto outer = json.optional_number({"rope_theta"})) {
    rope.theta = *outer;
  } else {
    json.fail("key 'rope_theta' is missing (also in 'rope_parameters')");
  }
  (void)positive_float(json, "rope_theta", rope.theta);

  const std::string kind =
      nested ? parameters.optional_string({"rope_type", "type"}).value_or("default") : "default";
  if (kind == "linear" || kind == "llama3") {
    rope.kind = kind == "linear" ? RopeConfig::Kind::kLinear : RopeConfig::Kind::kLlama3;
    rope.factor = parameters.number({"factor"});
    (void)positive_float(parameters, "factor", rope.factor);
  } else if (kind != "default") {
    parameters.fail(
        fmt::format("rope_type '{}' is not supported (known: default, linear, llama3)", kind));
  }
  if (rope.kind == RopeConfig::Kind::kLlama3) {
    rope.low_freq_factor = parameters.number({"low_freq_factor"});
    rope.high_freq_factor = parameters.number({"high_freq_factor"});
    rope.original_context = parameters.number({"original_max_position_embeddings"});
    if (!(rope.low_freq_factor > 0) || !(rope.high_freq_factor > rope.low_freq_factor) ||
        !(rope.original_context > 0)) {
      parameters.fail(
          "llama3 scaling needs 0 < low_freq_factor < high_freq_factor and a positive "
          "original_max_position_embeddings");
    }
  }
  return rope;
}

std::vector<std::optional<std::int32_t>> read_windows(const JsonObject& json, const Family& family,
                                                      std::int64_t num_layers) {
  std::vector<std::optional<std::int32_t>> windows(static_cast<std::size_t>(num_layers));
  const auto window = json.optional_integer({"sliding_window"});
  const bool needs_switch = family.window == WindowRule::kEveryLayerIfEnabled ||
                            family.window == WindowRule::kFromMaxWindowLayers;
  if (family.window == WindowRule::kNever || !window ||
      (needs_switch && !json.boolean_or("use_sliding_window", false))) {
    return windows;
  }
  if (*window <= 0 || *window > kMaxSize) {
    json.fail(fmt::format("key 'sliding_window' = {} is outside [1, {}]", *window, kMaxSize));
  }
  const auto types = json.strings("layer_types");
  if (!types.empty() && static_cast<std::int64_t>(types.size()) != num_layers) {
    json.fail(
        fmt::format("key 'layer_types' has {} items for {} layers", types.size(), num_layers));
  }
  const std::int64_t first = family.window == WindowRule::kFromMaxWindowLayers && types.empty()
                                 ? json.integer({"max_window_layers"}, 0, kMaxSize)
                                 : 0;
  for (const std::string& type : types) {
    if (type != "sliding_attention" && type != "full_attention") {
      json.fail(
          fmt::format("layer_types has '{}' (known: full_attention, sliding_attention)", type));
    }
  }
  for (std::size_t layer = 0; layer < windows.size(); ++layer) {
    const bool slides = types.empty() ? static_cast<std::int64_t>(layer) >= first
                                      : types[layer] == "sliding_attention";
    if (slides) windows[layer] = static_cast<std::int32_t>(*window);
  }
  return windows;
}

void read_mixture(const JsonObject& json, const Family& family, ModelConfig& config) {
  config.is_moe.assign(static_cast<std::size_t>(config.num_layers), family.mixture);
  if (!family.mixture) return;
  config.num_experts = json.integer({"num_experts", "num_local_experts"}, 1, 1024);
  config.experts_per_token = json.integer({"num_experts_per_tok"}, 1, config.num_experts);
  config.expert_intermediate_size = json.integer({family.expert_intermediate_key}, 1, kMaxSize);
  config.renormalize_gate = family.always_renormalize || json.boolean_or("norm_topk_prob", false);
  config.expert_names = family.expert_names;
  if (family.shared_expert) {
    config.shared_expert_intermediate_size =
        json.integer({"shared_expert_intermediate_size"}, 1, kMaxSize);
  }
  if (!family.sparse_step) return;
  const std::int64_t step = json.optional_integer({"decoder_sparse_step"}).value_or(1);
  if (step <= 0) json.fail(fmt::format("key 'decoder_sparse_step' = {} is not positive", step));
  const auto dense = json.integers("mlp_only_layers");
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    config.is_moe[static_cast<std::size_t>(layer)] =
        (layer + 1) % step == 0 && std::ranges::find(dense, layer) == dense.end();
  }
}

void read_end_of_text(const JsonObject& json, ModelConfig& config) {
  const auto ids = json.integers("eos_token_id");
  if (ids.empty()) return;
  config.end_of_text.clear();
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      json.fail(
          fmt::format("eos_token_id {} is outside the vocabulary of {}", id, config.vocab_size));
    }
    config.end_of_text.push_back(static_cast<TokenId>(id));
  }
}

}  // namespace

ModelConfig read_model_config(const std::filesystem::path& directory) {
  const JsonObject json = JsonObject::from_file(directory / "config.json");
  const Family& family = find_family(json);

  ModelConfig config;
  config.family = family.name;
  config.vocab_size = json.integer({"vocab_size"}, 1, kMaxSize);
  config.hidden_size = json.integer({"hidden_size"}, 1, kMaxSize);
  config.intermediate_size = json.integer({"intermediate_size"}, 1, kMaxSize);
  config.num_layers = json.integer({"num_hidden_layers"}, 1, 4096);
  config.num_heads = json.integer({"num_attention_heads"}, 1, 4096);
  config.num_kv_heads = json.optional_integer({"num_key_value_heads"}).value_or(config.num_heads);
  if (config.num_kv_heads <= 0 || config.num_heads % config.num_kv_heads != 0) {
    json.fail(fmt::format("num_attention_heads = {} is not a multiple of num_key_value_heads = {}",
                          config.num_heads, config.num_kv_heads));
  }
  config.head_dim =
      json.optional_integer({"head_dim"}).value_or(config.hidden_size / config.num_heads);
  if (config.head_dim <= 0 || config.head_dim % 2 != 0 || config.head_dim > 1024) {
    json.fail(fmt::format("head_dim = {} is not an even number in [2, 1024]", config.head_dim));
  }
  config.context_tokens = json.integer({"max_position_embeddings"}, 1, kMaxSize);
  const double eps = json.number({"rms_norm_eps"});
  if (!(eps >= 0 && eps <= 1)) json.fail(fmt::format("rms_norm_eps = {} is outside [0, 1]", eps));
  config.rms_norm_eps = static_cast<float>(eps);
  config.rope = read_rope(json);
  config.tie_word_embeddings = json.boolean_or("tie_word_embeddings", false);
  if (const auto activation = json.optional_string({"hidden_act"}).value_or("silu");
      activation != "silu") {
    json.fail(fmt::format("hidden_act '{}' is not supported (known: silu)", activation));
  }

  config.qkv_bias = read_bias(json, family.qkv_bias);
  config.output_bias = read_bias(json, family.output_bias);
  config.mlp_bias = read_bias(json, family.mlp_bias);
  config.qk_norm = family.qk_norm;
  if (const auto clip = json.optional_number({"clip_qkv"})) {
    config.clip_qkv = positive_float(json, "clip_qkv", *clip);
  }
  config.windows = read_windows(json, family, config.num_layers);
  read_mixture(json, family, config);
  config.stored_dtype = json.optional_string({"dtype", "torch_dtype"}).value_or("unknown");

  read_end_of_text(json, config);
  if (const auto generation = directory / "generation_config.json";
      std::filesystem::exists(generation)) {
    read_end_of_text(JsonObject::from_file(generation), config);
  }
  return config;
}

std::vector<float> inverse_frequencies(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < config.head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(config.head_dim);
    float frequency = 1.0f / std::pow(static_cast<float>(rope.theta), exponent);
    const auto factor = static_cast<float>(rope.factor);
    if (rope.kind == RopeConfig::Kind::kLinear) {
      frequency /= factor;
    } else if (rope.kind == RopeConfig::Kind::kLlama3) {
      // Long wavelengths are stretched, short ones kept, those between blended.
      const double wavelength = 2.0 * std::numbers::pi / static_cast<double>(frequency);
      if (wavelength > rope.original_context / rope.low_freq_factor) {
        frequency /= factor;
      } else if (wavelength >= rope.original_context / rope.high_freq_factor) {
        const auto blend =
            static_cast<float>((rope.original_context / wavelength - rope.low_freq_factor) /
                               (rope.high_freq_factor - rope.low_freq_factor));
        frequency = (1.0f - blend) * frequency / factor + blend * frequency;
      }
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.emplace_back(family.name);
  return names;
}

}  // namespace pikv
