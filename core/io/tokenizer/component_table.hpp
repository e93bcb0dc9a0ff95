// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reads a component of a tokenizer file by its "type" from a table of kinds, and flattens
// sequences.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/io/tokenizer/json_node.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

/// One kind: its name in the file and the function that appends what the component stands for.
template <class Parts>
struct ComponentKind {
  std::string_view type;
  void (*read)(const JsonNode& node, Parts& parts);
};

/// Nesting allowed in a file; real ones use two levels, and the stack must not be theirs to fill.
inline constexpr int kMaxComponentDepth = 16;

/// Appends the component `node` to `parts`. A "Sequence" appends the members of its array `members`
/// in order. Every InvalidArgument of a kind (a malformed pattern) becomes a BadFile at `node`.
template <class Parts>
void read_component(const JsonNode& node, std::span<const ComponentKind<Parts>> kinds,
                    std::string_view members, Parts& parts, int depth = 0) {
  if (depth == kMaxComponentDepth) node.fail("sequences are nested too deeply");
  const std::string type = node.at("type").string();
  if (type == "Sequence") {
    for (const JsonNode& member : node.at(members).elements()) {
      read_component(member, kinds, members, parts, depth + 1);
    }
    return;
  }
  std::string known = "Sequence";
  for (const ComponentKind<Parts>& kind : kinds) {
    if (kind.type == type) {
      try {
        return kind.read(node, parts);
      } catch (const InvalidArgument& error) {
        node.fail(error.what());
      }
    }
    known.append(", ").append(kind.type);
  }
  node.fail_unknown_type(type, known);
}

}  // namespace pikv
