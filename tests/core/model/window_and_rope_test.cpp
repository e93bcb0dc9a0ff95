// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The two parts of a config that each family reads its own way: sliding windows and the frequencies
// of the rotary embedding.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "tests/core/model/config_folder.hpp"
#include "tests/support/bad_file.hpp"

namespace pikv {
namespace {

using testing_support::expect_bad_file;
using testing_support::read_patched;
using Windows = std::vector<std::optional<std::int32_t>>;

constexpr std::nullopt_t kAll = std::nullopt;  // reads everything

TEST(SlidingWindow, SlidesInEveryLayerOfMistralAndMixtral) {
  for (const char* family : {"mistral", "mixtral"}) {
    EXPECT_EQ(read_patched(family, R"({"sliding_window": 8})").windows, (Windows{8, 8, 8}));
    EXPECT_EQ(read_patched(family, R"({"sliding_window": 8, "use_sliding_window": false})").windows,
              (Windows{8, 8, 8}))
        << "these families have no switch";
    EXPECT_EQ(read_patched(family, R"({"sliding_window": null})").windows,
              (Windows{kAll, kAll, kAll}));
  }
}

TEST(SlidingWindow, SlidesFromMaxWindowLayersOnInQwen2) {
  for (const char* family : {"qwen2", "qwen2_moe", "qwen3"}) {
    SCOPED_TRACE(family);
    const auto windows = [&](const std::string& members) {
      return read_patched(family, R"({"layer_types": null, "sliding_window": 8)" + members + "}")
          .windows;
    };
    EXPECT_EQ(windows(R"(, "use_sliding_window": true, "max_window_layers": 0)"),
              (Windows{8, 8, 8}));
    EXPECT_EQ(windows(R"(, "use_sliding_window": true, "max_window_layers": 1)"),
              (Windows{kAll, 8, 8}));
    EXPECT_EQ(windows(R"(, "use_sliding_window": true, "max_window_layers": 3)"),
              (Windows{kAll, kAll, kAll}));
    EXPECT_EQ(windows(R"(, "use_sliding_window": false, "max_window_layers": 1)"),
              (Windows{kAll, kAll, kAll}));
    expect_bad_file(
        [&] { (void)windows(R"(, "use_sliding_window": true, "max_window_layers": null)"); },
        "config.json", "key 'max_window_layers' is missing");
  }
}

TEST(SlidingWindow, LayerTypesSayWhichLayersSlide) {
  for (const char* family : {"qwen2", "qwen2_moe", "qwen3"}) {
    SCOPED_TRACE(family);
    const auto windows = [&](const std::string& types) {
      return read_patched(family, R"({"use_sliding_window": true, "sliding_window": 9,
          "max_window_layers": 0, "layer_types": )" +
                                      types + "}")
          .windows;
    };
    EXPECT_EQ(windows(R"(["sliding_attention", "full_attention", "sliding_attention"])"),
              (Windows{9, kAll, 9}));
    expect_bad_file([&] { (void)windows(R"(["full_attention"])"); }, "config.json",
                    "key 'layer_types' has 1 items for 3 layers");
    expect_bad_file(
        [&] { (void)windows(R"(["full_attention", "full_attention", "chunked_attention"])"); },
        "config.json", "'chunked_attention' (known: full_attention, sliding_attention)");
  }
}

TEST(SlidingWindow, NeedsTheSwitchInQwen3Moe) {
  const auto windows = [](const char* patch) { return read_patched("qwen3_moe", patch).windows; };
  EXPECT_EQ(windows(R"({"sliding_window": 8, "use_sliding_window": true})"), (Windows{8, 8, 8}));
  EXPECT_EQ(windows(R"({"sliding_window": 8, "use_sliding_window": false})"),
            (Windows{kAll, kAll, kAll}));
  EXPECT_EQ(windows(R"({"sliding_window": null, "use_sliding_window": true})"),
            (Windows{kAll, kAll, kAll}));
}

TEST(SlidingWindow, IsUnknownToLlamaAndOlmoe) {
  for (const char* family : {"llama", "olmoe"}) {
    EXPECT_EQ(read_patched(family, R"({"sliding_window": 8, "use_sliding_window": true})").windows,
              (Windows{kAll, kAll, kAll}));
  }
}

TEST(SlidingWindow, MustHoldAToken) {
  for (const char* window : {"0", "-8", "16777217", "9223372036854775807"}) {
    expect_bad_file(
        [&] { (void)read_patched("mistral", std::string("{\"sliding_window\": ") + window + "}"); },
        "config.json", "key 'sliding_window' = ");
  }
}

// The inv_freq of LlamaRotaryEmbedding in transformers 5.23 for head_dim 16.
struct Frequencies {
  const char* parameters;
  std::vector<float> expected;
};

TEST(RopeFrequencies, EqualThoseOfTheHub) {
  const std::vector<Frequencies> cases = {
      {R"({"rope_type": "default", "rope_theta": 10000.0})",
       {1.0f, 0.316227764f, 0.100000001f, 0.0316227786f, 0.00999999978f, 0.00316227786f,
        0.00100000005f, 0.000316227786f}},
      {R"({"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})",
       {0.25f, 0.079056941f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f,
        0.000250000012f, 7.90569466e-05f}},
      // Kept, kept, then stretched by 8, with a blend between.
      {R"({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 256})",
       {1.0f, 0.193922758f, 0.0105382307f, 0.000911583134f, 0.000176776681f, 3.42810235e-05f,
        6.64786967e-06f, 1.28917316e-06f}}};
  for (const auto& [parameters, expected] : cases) {
    SCOPED_TRACE(parameters);
    const auto actual = inverse_frequencies(
        read_patched("mistral", std::string("{\"rope_parameters\": ") + parameters + "}"));
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_NEAR(actual[i], expected[i], 5e-7f * expected[i]) << "frequency " << i;
    }
  }
}

}  // namespace
}  // namespace pikv
