// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The configuration of a Metaspace component, which is one for both directions: a visible mark for
// each space, and one before the text, which decoding takes away again.
#pragma once

#include <cstdint>
#include <string>

#include "core/io/tokenizer/json_node.hpp"

namespace pikv {

enum class PrependScheme : std::uint8_t { kNever, kFirst, kAlways };

struct Metaspace {
  std::string mark;  // one character
  PrependScheme scheme;
  bool split;
};

/// BadFile if malformed. Files older than "prepend_scheme" say "add_prefix_space".
[[nodiscard]] Metaspace read_metaspace(const JsonNode& node);

/// A string of exactly one character.
[[nodiscard]] std::string read_character(const JsonNode& node);

}  // namespace pikv
