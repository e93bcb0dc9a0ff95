// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/added_tokens.hpp"

#include <algorithm>

#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// The Unicode property White_Space, which is stable.
bool is_white_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// Where the character before `end` begins; `end` is not 0.
std::size_t previous_character(std::string_view text, std::size_t end) {
  do {
    --end;
  } while ((static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U);
  return end;
}

std::size_t skip_spaces_left(std::string_view text, std::size_t at, std::size_t limit) {
  while (at > limit) {
    const std::size_t before = previous_character(text, at);
    if (!is_white_space(utf8::first_code_point(text.substr(before)))) break;
    at = before;
  }
  return at;
}

std::size_t skip_spaces_right(std::string_view text, std::size_t at) {
  while (at < text.size() && is_white_space(utf8::first_code_point(text.substr(at)))) {
    at += utf8::length_from_lead(text[at]);
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens,
                                     const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)),
      nodes_(1),
      word_character_(
          Regex::from_oniguruma(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])")) {
  ensure(tokens_.size() == patterns.size(), "an added token has one pattern");
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (!patterns[i].empty()) insert(patterns[i], i);
  }
}

void AddedTokenMatcher::insert(std::string_view pattern, std::size_t token_idx) {
  std::uint32_t node_idx = 0;
  for (const char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    auto& children = nodes_[node_idx].children;
    const auto child = std::lower_bound(children.begin(), children.end(), byte,
                                        [](const auto& a, unsigned char b) { return a.first < b; });
    if (child != children.end() && child->first == byte) {
      node_idx = child->second;
      continue;
    }
    const auto new_idx = static_cast<std::uint32_t>(nodes_.size());
    children.insert(child, {byte, new_idx});
    nodes_.emplace_back();
    node_idx = new_idx;
  }
  if (nodes_[node_idx].token_idx == kNone) nodes_[node_idx].token_idx = token_idx;
}

const AddedTokenMatcher::Node* AddedTokenMatcher::step(const Node& node, char c) const {
  const auto byte = static_cast<unsigned char>(c);
  const auto child = std::lower_bound(node.children.begin(), node.children.end(), byte,
                                      [](const auto& a, unsigned char b) { return a.first < b; });
  const bool found = child != node.children.end() && child->first == byte;
  return found ? &nodes_[child->second] : nullptr;
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_match_at(std::string_view text,
                                                             std::size_t begin) const {
  Match best{kNone, begin};
  const Node* node = &nodes_.front();
  for (std::size_t i = begin; i < text.size(); ++i) {
    node = step(*node, text[i]);
    if (node == nullptr) break;
    if (node->token_idx != kNone) best = {node->token_idx, i + 1};
  }
  return best;
}

bool AddedTokenMatcher::is_single_word(std::string_view text, TextRange range) const {
  RegexMatcher matcher(word_character_);
  const auto is_word = [&](std::size_t at) {
    matcher.reset(text.substr(at, utf8::length_from_lead(text[at])));
    return matcher.next().has_value();
  };
  if (range.begin > 0 && is_word(previous_character(text, range.begin))) return false;
  return range.end == text.size() || !is_word(range.end);
}

std::vector<Segment> AddedTokenMatcher::split(std::string_view text, bool parse_special) const {
  std::vector<Segment> segments;
  std::size_t done = 0;
  if (!nodes_.front().children.empty()) {
    for (std::size_t at = 0; at < text.size();) {
      const Match match = longest_match_at(text, at);
      if (match.token_idx == kNone) {
        ++at;
        continue;
      }
      TextRange range{at, match.end};
      at = match.end;
      const AddedToken& token = tokens_[match.token_idx];
      if (token.special && !parse_special) continue;
      if (token.single_word && !is_single_word(text, range)) continue;
      // The token before may have taken spaces that this one begins with. Then this one overlaps
      // it, or with lstrip gives way, and is dropped if nothing of it is left.
      if (token.lstrip) range.begin = std::max(done, skip_spaces_left(text, range.begin, done));
      if (token.rstrip) range.end = skip_spaces_right(text, range.end);
      if (range.begin >= range.end) continue;
      if (done < range.begin) segments.push_back({{done, range.begin}});
      segments.push_back({range, token.id});
      done = range.end;
    }
  }
  if (done < text.size()) segments.push_back({{done, text.size()}});
  return segments;
}

}  // namespace pikv
