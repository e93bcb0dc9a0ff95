// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The "pattern" of a Split or Replace component: {"String": ...} or {"Regex": ...}.
#pragma once

#include <string>
#include <string_view>

#include "core/io/tokenizer/json_node.hpp"
#include "core/io/tokenizer/regex.hpp"

namespace pikv {

/// BadFile if it is neither; InvalidArgument if the expression is malformed.
[[nodiscard]] Regex read_pattern(const JsonNode& node);

/// The text with every match of the matcher's regex replaced by `content`, literally.
[[nodiscard]] std::string replace_all(RegexMatcher& matcher, std::string_view text,
                                      std::string_view content);

}  // namespace pikv
