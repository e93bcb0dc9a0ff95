// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pre-tokenizers cut the normalized text into pieces, which byte-pair encoding then never crosses,
// and may rewrite it on the way (into the byte alphabet, or spaces into a visible mark). Each kind
// is a row of the table in pre_tokenizer.cpp, made of the few stages there.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/tokenizer/json_node.hpp"

namespace pikv {

struct Piece {
  std::size_t begin;  // bytes of PieceList::text, end exclusive
  std::size_t end;
  bool starts_text;  // nothing of the caller's text lies before it
};

/// Invariants: the pieces are in order, not empty, and do not overlap; what lies between them was
/// removed.
struct PieceList {
  std::string text;
  std::vector<Piece> pieces;

  [[nodiscard]] std::string_view view(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
};

/// Immutable; shared by threads.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  void apply(PieceList& list) const { do_apply(list); }

 private:
  virtual void do_apply(PieceList& list) const = 0;
};

using PreTokenizers = std::vector<std::unique_ptr<const PreTokenizer>>;

/// Reads a component and, for a Sequence, its parts in order. BadFile for an unknown kind.
[[nodiscard]] PreTokenizers read_pre_tokenizers(const JsonNode& node);

/// The pre-tokenizer of GPT-2: its expression, then the byte alphabet.
[[nodiscard]] PreTokenizers make_gpt2_pre_tokenizers();

}  // namespace pikv
