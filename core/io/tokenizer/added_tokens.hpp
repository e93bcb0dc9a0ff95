// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Added tokens are found in the text as they stand, before it is split and encoded: control tokens
// such as <|im_end|>, and words that a vocabulary was extended by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/ids.hpp"
#include "core/io/tokenizer/regex.hpp"

namespace pikv {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  // not inside a word
  bool lstrip = false;       // takes the white space on its left
  bool rstrip = false;
  bool normalized = false;  // sought in the normalized text, in its own normalized form
  bool special = false;
};

/// A stretch of text, or the added token found there.
struct Segment {
  static constexpr TokenId kText = -1;

  TextRange range;
  TokenId token = kText;
};

/// Finds a fixed set of added tokens. Of those that begin leftmost the longest matches; a match
/// that its flags forbid hides what it covers, as in the reference. Immutable; shared by threads.
class AddedTokenMatcher {
 public:
  /// `patterns[i]` is sought for `tokens[i]`; an empty one is never found. Of equal ones the first
  /// stands (the reference leaves it open).
  AddedTokenMatcher(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);

  /// The text as segments in order, none of them an empty text. Without `parse_special` special
  /// tokens are text. O(text * longest pattern) at worst; near O(text) in practice.
  [[nodiscard]] std::vector<Segment> split(std::string_view text, bool parse_special) const;

 private:
  /// A node of the trie of all patterns, whose children are sorted by byte.
  struct Node {
    std::vector<std::pair<unsigned char, std::uint32_t>> children;
    std::size_t token_idx = kNone;
  };
  struct Match {
    std::size_t token_idx;
    std::size_t end;
  };
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  void insert(std::string_view pattern, std::size_t token_idx);
  [[nodiscard]] const Node* step(const Node& node, char byte) const;
  [[nodiscard]] Match longest_match_at(std::string_view text, std::size_t begin) const;
  [[nodiscard]] bool is_single_word(std::string_view text, TextRange range) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  Regex word_character_;
};

}  // namespace pikv
