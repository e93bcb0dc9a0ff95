// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/metaspace.hpp"

#include <optional>

#include "core/io/tokenizer/utf8.hpp"

namespace pikv {
namespace {

PrependScheme read_scheme(const JsonNode& node) {
  const std::optional<JsonNode> scheme = node.find("prepend_scheme");
  const bool legacy = node.boolean_or("add_prefix_space", true);
  if (!scheme) return legacy ? PrependScheme::kAlways : PrependScheme::kNever;
  const std::string name = scheme->string();
  if (name == "never") return PrependScheme::kNever;
  if (!legacy) node.fail("add_prefix_space contradicts prepend_scheme");
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  scheme->fail_unknown_type(name, "always, first, never");
}

}  // namespace

std::string read_character(const JsonNode& node) {
  std::string text = node.string();
  if (text.empty() || utf8::length_from_lead(text.front()) != text.size()) {
    node.fail("is not one character");
  }
  return text;
}

Metaspace read_metaspace(const JsonNode& node) {
  return {read_character(node.at("replacement")), read_scheme(node),
          node.boolean_or("split", true)};
}

}  // namespace pikv
