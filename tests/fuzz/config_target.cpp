// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <string>

#include "core/model/model_config.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/temp_folder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const pikv::testing_support::TempFolder folder;
  folder.write("config.json", {reinterpret_cast<const char*>(data), size});
  pikv::fuzz::expect_bad_file_at_most([&] {
    const pikv::ModelConfig config = pikv::read_model_config(folder.path());
    // What the rest of the program relies on.
    if (config.num_heads % config.num_kv_heads != 0) pikv::fuzz::fail("config", "heads");
    if (config.is_moe.size() != config.windows.size()) pikv::fuzz::fail("config", "layers");
    if (config.experts_per_token > config.num_experts) pikv::fuzz::fail("config", "experts");
    for (const float frequency : pikv::inverse_frequencies(config)) {
      if (!(frequency >= 0)) pikv::fuzz::fail("config", "a frequency that is no number");
    }
  });
  return 0;
}
