// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Byte-pair encoding of one piece of text: begin with its characters, then merge the adjacent pair
// of the lowest rank, the leftmost first, until no pair has a rule.
// Source: Sennrich, Haddow and Birch 2016, arXiv 1508.07909, algorithm 1.
//
// A piece of n characters costs O(n log n); short pieces, which are nearly all, take a quadratic
// scan that is faster there.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/ids.hpp"
#include "core/io/tokenizer/vocabulary.hpp"

namespace pikv {

/// The merge rules, looked up by pair. Rows by the left token, each sorted by the right one: a
/// lookup is a binary search in one row.
class MergeTable {
 public:
  struct Rule {
    TokenId left;
    TokenId right;
    TokenId result;
    std::uint32_t rank;
  };

  /// Of two rules for one pair the later stands, as in the reference. All ids are below num_tokens.
  MergeTable(std::vector<Rule> rules, std::size_t num_tokens);

  /// The rule for the pair, or null.
  [[nodiscard]] const Rule* find(TokenId left, TokenId right) const;

 private:
  std::vector<Rule> rules_;
  std::vector<std::uint32_t> row_begins_;  // [num_tokens + 1]
};

struct BpeOptions {
  /// Stands for characters that have no token; without it they vanish.
  std::optional<TokenId> unknown;
  /// Gives a run of unknown characters one token.
  bool fuse_unknown = false;
  /// Spells a character without a token by the tokens "<0x00>" to "<0xFF>" of its bytes.
  bool byte_fallback = false;
  /// Takes a piece that is a token whole, without merging.
  bool ignore_merges = false;
};

/// Immutable; shared by threads.
class BpeModel {
 public:
  /// Keeps a reference to `vocabulary`.
  BpeModel(const Vocabulary& vocabulary, MergeTable merges, const BpeOptions& options);

  [[nodiscard]] const Vocabulary& vocabulary() const { return *vocabulary_; }
  [[nodiscard]] const MergeTable& merges() const { return merges_; }
  [[nodiscard]] const BpeOptions& options() const { return options_; }

  /// The token of a single character.
  [[nodiscard]] std::optional<TokenId> character_id(std::string_view character) const;
  /// The token of a byte under byte_fallback.
  [[nodiscard]] std::optional<TokenId> byte_id(unsigned char byte) const;

 private:
  static constexpr TokenId kNone = -1;
  /// Covers ASCII and the byte alphabet, so that byte-level models never hash a character.
  static constexpr std::size_t kNumDirectCodePoints = 0x200;

  const Vocabulary* vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::array<TokenId, kNumDirectCodePoints> direct_ids_;  // [code point]
  std::array<TokenId, 256> byte_ids_;                     // [byte]
};

/// The working memory of one call: scratch space and a bounded cache of the pieces seen. One
/// thread.
class BpeEncoder {
 public:
  explicit BpeEncoder(const BpeModel& model) : model_(&model) {}

  /// Appends the tokens of `piece`, which must be valid UTF-8.
  void encode(std::string_view piece, std::vector<TokenId>& out);

 private:
  /// Words repeat and long pieces do not; together the limits bound the cache to some 20 MB.
  static constexpr std::size_t kMaxCachedPieces = 65'536;
  static constexpr std::size_t kMaxCachedBytes = 128;
  /// Up to here a scan of all pairs for each merge beats the heap.
  static constexpr std::size_t kMaxScannedSymbols = 24;

  struct CachedPiece {
    std::uint32_t begin;
    std::uint32_t count;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  /// A token of a long piece in a linked list by position; -1 ends it, a merged-away one is dead.
  struct Symbol {
    TokenId id;
    std::int32_t previous;
    std::int32_t next;
    bool alive;
  };
  struct Candidate {
    std::uint32_t rank;
    std::int32_t position;
    TokenId result;
  };

  void encode_uncached(std::string_view piece, std::vector<TokenId>& out);
  void split_into_characters(std::string_view piece);
  void merge_by_scan();
  void merge_by_heap();
  void push_candidate(std::int32_t left, std::int32_t right);

  const BpeModel* model_;
  std::vector<TokenId> ids_;  // the piece in work
  std::vector<const MergeTable::Rule*> pair_rules_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
  std::unordered_map<std::string, CachedPiece, Hash, std::equal_to<>> cache_;
  std::vector<TokenId> cached_ids_;
};

}  // namespace pikv
