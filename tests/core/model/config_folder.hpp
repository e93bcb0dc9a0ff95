// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Variations of the configs of tests/data/families.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/model/model_config.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::testing_support {

using Json = nlohmann::json;

[[nodiscard]] inline std::filesystem::path family_folder(std::string_view family) {
  return std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / family;
}

/// The config of a family with members replaced, or removed where the patch has null.
[[nodiscard]] inline Json patched_config(std::string_view family, std::string_view patch) {
  Json json = Json::parse(read_file(family_folder(family) / "config.json"));
  json.merge_patch(Json::parse(patch));
  return json;
}

/// Reads such a config from a folder that holds nothing else.
[[nodiscard]] inline ModelConfig read_patched(std::string_view family,
                                              std::string_view patch = "{}") {
  const TempFolder folder;
  folder.write("config.json", patched_config(family, patch).dump());
  return read_model_config(folder.path());
}

}  // namespace pikv::testing_support
