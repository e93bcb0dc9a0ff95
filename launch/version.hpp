// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace pikv::launch {

/// The project's version, "major.minor.patch".
[[nodiscard]] std::string_view version();

}  // namespace pikv::launch
