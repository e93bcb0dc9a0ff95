// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Files of samples: JSON objects, one a line or in one list. Errors name the file and the place.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/json_file.hpp"

namespace pikv::launch {

/// Calls `take` for the object of each line that is not blank. Throws BadFile if the file is
/// missing, is not UTF-8, has a line that is not a JSON object, or no objects at all.
void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(const JsonObject&)>& take);

/// The objects of a file that is one JSON list of them. Throws BadFile for anything else.
[[nodiscard]] std::vector<JsonObject> read_json_list(const std::filesystem::path& path);

/// A string or a number as text; nothing for other types.
[[nodiscard]] std::optional<std::string> text_of(const nlohmann::json& value);

/// A string, a number or a list of them, as texts; empty when missing. BadFile for other types.
[[nodiscard]] std::vector<std::string> texts_of(const JsonObject& object, std::string_view key);

}  // namespace pikv::launch
