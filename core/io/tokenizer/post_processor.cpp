// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/post_processor.hpp"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>

#include "core/io/tokenizer/component_table.hpp"

namespace pikv {
namespace {

struct Work {
  const Vocabulary& vocabulary;
  PostProcessor result;
};

/// It only trims offsets into the text, which we do not report.
void read_byte_level(const JsonNode&, Work&) {}

void append_special(const JsonNode& node, const std::string& name, const Work& work,
                    std::vector<TokenId>& ids) {
  for (const JsonNode& element : node.at("special_tokens").at(name).at("ids").elements()) {
    const auto id = static_cast<TokenId>(element.integer(0, Vocabulary::kMaxTokenId));
    if (!work.vocabulary.contains(id)) {
      element.fail(fmt::format("id {} is not in the vocabulary", id));
    }
    ids.push_back(id);
  }
}

void read_template(const JsonNode& node, Work& work) {
  const JsonNode single = node.at("single");
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  bool seen_sequence = false;
  for (const JsonNode& piece : single.elements()) {
    if (const std::optional<JsonNode> special = piece.find("SpecialToken")) {
      append_special(node, special->at("id").string(), work, seen_sequence ? after : before);
      continue;
    }
    if (piece.at("Sequence").at("id").string() != "A" || seen_sequence) {
      piece.fail("only one sequence A is supported");
    }
    seen_sequence = true;
  }
  if (!seen_sequence) single.fail("has no sequence A");
  // The templates of a Sequence nest: a later one goes around the earlier ones.
  PostProcessor& result = work.result;
  result.prefix.insert(result.prefix.begin(), before.begin(), before.end());
  result.suffix.insert(result.suffix.end(), after.begin(), after.end());
}

constexpr std::array<ComponentKind<Work>, 2> kKinds = {{
    {"ByteLevel", read_byte_level},
    {"TemplateProcessing", read_template},
}};

}  // namespace

PostProcessor read_post_processor(const JsonNode& node, const Vocabulary& vocabulary) {
  Work work{vocabulary, {}};
  read_component<Work>(node, kKinds, "processors", work);
  return std::move(work.result);
}

}  // namespace pikv
