// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/pattern.hpp"

#include <optional>

namespace pikv {

Regex read_pattern(const JsonNode& node) {
  if (const std::optional<JsonNode> text = node.find("String")) {
    return Regex::literal(text->string());
  }
  if (const std::optional<JsonNode> pattern = node.find("Regex")) {
    return Regex::from_oniguruma(pattern->string());
  }
  node.fail("has neither 'String' nor 'Regex'");
}

std::string replace_all(RegexMatcher& matcher, std::string_view text, std::string_view content) {
  std::string out;
  // The reference looks for nothing in an empty text, not even for an empty match.
  if (text.empty()) return out;
  out.reserve(text.size());
  std::size_t end = 0;
  matcher.reset(text);
  while (const std::optional<TextRange> match = matcher.next()) {
    out += text.substr(end, match->begin - end);
    out += content;
    end = match->end;
  }
  out += text.substr(end);
  return out;
}

}  // namespace pikv
