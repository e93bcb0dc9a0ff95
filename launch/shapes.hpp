// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Configs of models that come with the program (models/shapes), to measure without weights.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace pikv::launch {

/// Where they are: beside an installed program (../share/pikv/shapes of its folder), else in the
/// source tree that it was built from.
[[nodiscard]] std::filesystem::path shapes_folder();

/// Their names, sorted; none if that folder is not there.
[[nodiscard]] std::vector<std::string> shape_names();

/// The folder with the config.json that `shape` means: a folder, a config.json, or the name of one
/// that comes with the program; what is there under a path comes before a name. Throws
/// InvalidArgument, with the known names, for anything else.
[[nodiscard]] std::filesystem::path find_shape(const std::filesystem::path& shape);

}  // namespace pikv::launch
