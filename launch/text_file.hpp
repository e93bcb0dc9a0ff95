// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace pikv::launch {

/// The bytes of a UTF-8 file. Throws BadFile.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path);

}  // namespace pikv::launch
