// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/tokenizer_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/io/one_line.hpp"
#include "core/io/tokenizer/json_node.hpp"
#include "core/io/tokenizer/read_model.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

AddedToken read_added_token(const JsonNode& node) {
  return {.content = node.at("content").string(),
          .id = static_cast<TokenId>(node.at("id").integer(0, Vocabulary::kMaxTokenId)),
          .single_word = node.at("single_word").boolean(),
          .lstrip = node.at("lstrip").boolean(),
          .rstrip = node.at("rstrip").boolean(),
          .normalized = node.at("normalized").boolean(),
          .special = node.at("special").boolean()};
}

std::vector<AddedToken> read_added_tokens(const JsonNode& root) {
  std::vector<AddedToken> tokens;
  if (const std::optional<JsonNode> list = root.find("added_tokens")) {
    for (const JsonNode& element : list->elements()) {
      tokens.push_back(read_added_token(element));
    }
  }
  return tokens;
}

}  // namespace

std::string normalize(const Normalizers& normalizers, std::string text) {
  for (const auto& normalizer : normalizers) {
    if (!text.empty()) text = normalizer->apply(std::move(text));
  }
  return text;
}

void TokenizerParts::set_added_tokens(std::vector<AddedToken> tokens) {
  // The reference ignores added tokens without content, and seeks special ones first.
  std::erase_if(tokens, [](const AddedToken& token) { return token.content.empty(); });
  std::stable_partition(tokens.begin(), tokens.end(),
                        [](const AddedToken& token) { return token.special; });
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  std::vector<std::string> raw_patterns;
  std::vector<std::string> normalized_patterns;
  for (AddedToken& token : tokens) {
    vocabulary.insert_added_token(token.content, token.id, token.special);
    if (token.normalized) {
      normalized_patterns.push_back(normalize(normalizers, token.content));
      normalized_texts.insert_or_assign(token.id, normalized_patterns.back());
      normalized.push_back(std::move(token));
    } else {
      raw_patterns.push_back(token.content);
      raw.push_back(std::move(token));
    }
  }
  raw_tokens.emplace(std::move(raw), raw_patterns);
  normalized_tokens.emplace(std::move(normalized), normalized_patterns);
}

std::string_view TokenizerParts::text_to_decode(TokenId id) const {
  const auto normalized = normalized_texts.find(id);
  return normalized != normalized_texts.end() ? normalized->second : vocabulary.text(id);
}

std::shared_ptr<const TokenizerParts> read_tokenizer_json(std::string_view json,
                                                          std::string_view source_name) {
  const nlohmann::json document = parse_json(json, source_name);
  const JsonNode root(document, source_name);
  for (const char* const key : {"truncation", "padding"}) {
    if (root.find(key)) root.at(key).fail("is not supported (known: null)");
  }
  auto parts = std::make_shared<TokenizerParts>();
  parts->model.emplace(read_model(root.at("model"), parts->vocabulary));
  if (const auto node = root.find("normalizer")) parts->normalizers = read_normalizers(*node);
  try {
    parts->set_added_tokens(read_added_tokens(root));
  } catch (const InvalidArgument& error) {
    root.at("added_tokens").fail(error.what());
  }
  if (const auto node = root.find("pre_tokenizer")) {
    parts->pre_tokenizers = read_pre_tokenizers(*node);
  }
  if (const auto node = root.find("post_processor")) {
    parts->post_processor = read_post_processor(*node, parts->vocabulary);
  }
  const auto decoder = root.find("decoder");
  parts->decoder = decoder ? read_decoder(*decoder) : make_joining_decoder();
  return parts;
}

std::shared_ptr<const TokenizerParts> read_gpt2(std::string_view vocabulary_json,
                                                std::string_view vocabulary_name,
                                                std::string_view merges_text,
                                                std::string_view merges_name) {
  constexpr std::string_view kEndOfText = "<|endoftext|>";
  const nlohmann::json document = parse_json(vocabulary_json, vocabulary_name);
  auto parts = std::make_shared<TokenizerParts>();
  read_vocabulary(JsonNode(document, vocabulary_name), parts->vocabulary);
  if (const auto offset = utf8::find_invalid(merges_text)) {
    throw BadFile(fmt::format("{}: not UTF-8 at byte {}", merges_name, *offset));
  }
  MergeReader merges(parts->vocabulary);
  while (!merges_text.empty()) {
    const std::size_t end = std::min(merges_text.find('\n'), merges_text.size());
    std::string_view line = merges_text.substr(0, end);
    merges_text.remove_prefix(std::min(end + 1, merges_text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    try {
      merges.add_line(line);
    } catch (const InvalidArgument& error) {
      throw BadFile(one_line(fmt::format("{}: {}", merges_name, error.what())));
    }
  }
  parts->model.emplace(parts->vocabulary, std::move(merges).finish(), BpeOptions{});
  parts->pre_tokenizers = make_gpt2_pre_tokenizers();
  parts->decoder = make_byte_level_decoder();
  std::vector<AddedToken> added;
  if (const auto id = parts->vocabulary.id_of(kEndOfText)) {
    added.push_back({.content = std::string(kEndOfText), .id = *id, .special = true});
  }
  parts->set_added_tokens(std::move(added));
  return parts;
}

}  // namespace pikv
