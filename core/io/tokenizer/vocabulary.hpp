// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The two-way map between token texts and ids. Model tokens are what byte-pair encoding can
// produce; added tokens are matched in the text before it. An added token may name a model token
// again.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

/// Invariants: each text has one id and each id at most one text; ids lie in [0, kMaxTokenId].
/// Lookups are O(length of the text).
class Vocabulary {
 public:
  /// Bounds the memory that a malformed file can ask for; sixty times the largest vocabulary known.
  static constexpr TokenId kMaxTokenId = (TokenId{1} << 24) - 1;

  /// Throw InvalidArgument if the id or the text is taken by another token.
  void insert_model_token(std::string_view text, TokenId id);
  void insert_added_token(std::string_view text, TokenId id, bool special);

  [[nodiscard]] std::optional<TokenId> id_of(std::string_view text) const;
  /// The same among the tokens of the model alone.
  [[nodiscard]] std::optional<TokenId> model_id_of(std::string_view text) const;

  [[nodiscard]] bool contains(TokenId id) const;
  /// The id must be contained.
  [[nodiscard]] std::string_view text(TokenId id) const { return entry(id).text; }
  [[nodiscard]] bool is_special(TokenId id) const { return entry(id).special; }

  /// One past the largest id.
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string text;
    bool used = false;
    bool in_model = false;
    bool special = false;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };

  [[nodiscard]] const Entry& entry(TokenId id) const {
    return entries_[static_cast<std::size_t>(id)];
  }
  Entry& insert(std::string_view text, TokenId id);

  std::vector<Entry> entries_;  // [id]
  std::unordered_map<std::string, TokenId, Hash, std::equal_to<>> ids_;
};

}  // namespace pikv
