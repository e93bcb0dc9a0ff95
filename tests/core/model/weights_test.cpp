// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/weights.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/core/model/config_folder.hpp"
#include "tests/support/bad_file.hpp"
#include "tests/support/safetensors_image.hpp"

namespace pikv {
namespace {

using testing_support::expect_bad_file;
using testing_support::family_folder;
using testing_support::FolderCopy;
using testing_support::TensorImage;

using Tensors = std::map<std::string, TensorImage>;

/// A model of qwen3_moe whose tensors were tampered with.
void expect_refused(const std::function<void(Tensors&)>& tamper, std::string_view reason) {
  static const Tensors original =
      testing_support::read_tensors(family_folder("qwen3_moe") / "model.safetensors");
  const FolderCopy folder(family_folder("qwen3_moe"));
  Tensors tensors = original;
  tamper(tensors);
  folder.write("model.safetensors", testing_support::safetensors_image(tensors));
  const ModelConfig config = read_model_config(folder.path());
  expect_bad_file([&] { ModelWeights(folder.path(), config); }, folder.path().string(), reason);
}

const std::vector<std::string> kSomeOfEachKind = {
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.norm.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.post_attention_layernorm.weight",
    "model.layers.1.self_attn.q_proj.weight",
    "model.layers.2.self_attn.k_proj.weight",
    "model.layers.0.self_attn.v_proj.weight",
    "model.layers.1.self_attn.o_proj.weight",
    "model.layers.2.self_attn.q_norm.weight",
    "model.layers.0.self_attn.k_norm.weight",
    "model.layers.0.mlp.gate.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.2.mlp.experts.7.up_proj.weight",
};

TEST(ModelWeights, AMissingTensorIsNamed) {
  for (const std::string& name : kSomeOfEachKind) {
    expect_refused([&](Tensors& tensors) { ASSERT_EQ(tensors.erase(name), 1u); },
                   "tensor '" + name + "' is missing");
  }
}

TEST(ModelWeights, ATensorOfAnotherShapeIsNamed) {
  for (const std::string& name : kSomeOfEachKind) {
    expect_refused(
        [&](Tensors& tensors) {
          TensorImage& tensor = tensors.at(name);
          ++tensor.shape[0];
          tensor.bytes.resize(tensor.bytes.size() / static_cast<std::size_t>(tensor.shape[0] - 1) *
                              static_cast<std::size_t>(tensor.shape[0]));
        },
        "tensor '" + name + "' is F32 [");
    // The right number of elements on other axes.
    expect_refused([&](Tensors& tensors) { tensors.at(name).shape.push_back(1); },
                   "tensor '" + name + "' is F32 [");
  }
}

TEST(ModelWeights, ATensorOfAnotherTypeIsNamed) {
  for (const std::string& name : kSomeOfEachKind) {
    expect_refused([&](Tensors& tensors) { tensors.at(name).dtype = "I32"; },
                   "tensor '" + name + "' is I32 [");
  }
}

TEST(ModelWeights, TransposedMatricesAreRefused) {
  expect_refused(
      [](Tensors& tensors) {
        auto& shape = tensors.at("model.layers.0.self_attn.k_proj.weight").shape;
        shape = {32, 128};
      },
      "is F32 [32, 128], expected [64, 64]");
}

TEST(ModelWeights, ATiedModelNeedsNoHead) {
  const FolderCopy folder(family_folder("qwen3_moe"));
  auto tensors = testing_support::read_tensors(folder.path() / "model.safetensors");
  tensors.erase("lm_head.weight");
  folder.write("model.safetensors", testing_support::safetensors_image(tensors));
  folder.write(
      "config.json",
      testing_support::patched_config("qwen3_moe", R"({"tie_word_embeddings": true})").dump());
  const ModelWeights weights(folder.path(), read_model_config(folder.path()));
  EXPECT_EQ(weights.lm_head().data, weights.embedding().data);
}

TEST(ModelWeights, ABiasThatTheConfigPromisesMustBeThere) {
  const FolderCopy folder(family_folder("qwen3_moe"));
  folder.write("config.json",
               testing_support::patched_config("qwen3_moe", R"({"attention_bias": true})").dump());
  const ModelConfig config = read_model_config(folder.path());
  expect_bad_file([&] { ModelWeights(folder.path(), config); }, folder.path().string(),
                  "tensor 'model.layers.0.self_attn.q_proj.bias' is missing");
}

TEST(ModelWeights, HalfPrecisionMatricesStayInTheFile) {
  const FolderCopy folder(family_folder("qwen3_moe"));
  auto tensors = testing_support::read_tensors(folder.path() / "model.safetensors");
  for (auto& [name, tensor] : tensors) {
    // Truncation to bfloat16 keeps the upper half of each element.
    std::string halves;
    for (std::size_t i = 2; i < tensor.bytes.size(); i += 4) halves += tensor.bytes.substr(i, 2);
    tensor = {"BF16", tensor.shape, halves};
  }
  folder.write("model.safetensors", testing_support::safetensors_image(tensors));
  const ModelWeights weights(folder.path(), read_model_config(folder.path()));
  EXPECT_EQ(weights.embedding().dtype, DType::kBf16);
  ASSERT_TRUE(weights.layer(LayerId{0}).moe.has_value());
  EXPECT_EQ(weights.layer(LayerId{0}).moe->experts.size(), 8u);
  ASSERT_TRUE(weights.layer(LayerId{1}).mlp.has_value());
  EXPECT_EQ(weights.final_norm().size(), 64u);
  std::size_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.bytes.size();
  EXPECT_EQ(weights.checkpoint_bytes(), total);
}

TEST(RandomWeights, AreTheSameForAnyNumberOfRanks) {
  const ModelConfig config = read_model_config(family_folder("qwen3_moe"));
  const std::int64_t num_experts = config.num_experts;
  Exec exec = Exec::cpu(1);
  const auto make = [&](int num_ranks, int rank) {
    std::vector<std::int32_t> owners;
    for (std::int64_t i = 0; i < config.num_layers * num_experts; ++i) {
      owners.push_back(static_cast<std::int32_t>(i % num_experts) % num_ranks);
    }
    const ShardMap map(config.num_layers, num_experts, num_ranks, owners);
    return ModelWeights::random(exec, config, DType::kF32, 5, map, rank);
  };
  const auto equal = [](const WeightView& a, const WeightView& b) {
    return a.bytes() == b.bytes() && std::memcmp(a.data, b.data, a.bytes()) == 0;
  };
  const ModelWeights all = make(1, 0);
  const ModelWeights part = make(2, 1);
  EXPECT_TRUE(equal(part.lm_head(), all.lm_head()));
  int num_moe_layers = 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const LayerWeights& of_all = all.layer(id_from<LayerId>(layer));
    const LayerWeights& of_part = part.layer(id_from<LayerId>(layer));
    EXPECT_TRUE(equal(of_part.attention.q, of_all.attention.q));
    if (!of_all.moe) continue;
    ++num_moe_layers;
    for (std::size_t e = 0; e < of_all.moe->experts.size(); ++e) {
      const MlpWeights& expert = of_part.moe->experts[e];
      ASSERT_EQ(expert.up.rows, of_all.moe->experts[e].up.rows);
      ASSERT_EQ(expert.gate.data != nullptr, e % 2 == 1) << "expert " << e;
      if (expert.gate.data == nullptr) continue;
      EXPECT_TRUE(equal(expert.down, of_all.moe->experts[e].down)) << "expert " << e;
    }
  }
  EXPECT_GT(num_moe_layers, 0);
}

}  // namespace
}  // namespace pikv
