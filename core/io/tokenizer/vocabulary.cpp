// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/vocabulary.hpp"

#include "kernels/common/error.hpp"

namespace pikv {

Vocabulary::Entry& Vocabulary::insert(std::string_view text, TokenId id) {
  require(id >= 0 && id <= kMaxTokenId, "vocabulary", "id ", id, " of token '", text,
          "' is not in 0 to ", kMaxTokenId);
  const auto [known, is_new] = ids_.try_emplace(std::string(text), id);
  require(known->second == id, "vocabulary", "token '", text, "' has the ids ", known->second,
          " and ", id);
  const auto slot = static_cast<std::size_t>(id);
  if (slot >= entries_.size()) entries_.resize(slot + 1);
  Entry& entry = entries_[slot];
  require(!is_new || !entry.used, "vocabulary", "id ", id, " belongs to the tokens '", entry.text,
          "' and '", text, "'");
  if (is_new) {
    entry.text = text;
    entry.used = true;
  }
  return entry;
}

void Vocabulary::insert_model_token(std::string_view text, TokenId id) {
  insert(text, id).in_model = true;
}

void Vocabulary::insert_added_token(std::string_view text, TokenId id, bool special) {
  insert(text, id).special = special;
}

std::optional<TokenId> Vocabulary::id_of(std::string_view text) const {
  const auto found = ids_.find(text);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::optional<TokenId> Vocabulary::model_id_of(std::string_view text) const {
  const std::optional<TokenId> id = id_of(text);
  return id && entry(*id).in_model ? id : std::nullopt;
}

bool Vocabulary::contains(TokenId id) const {
  return id >= 0 && static_cast<std::size_t>(id) < entries_.size() && entry(id).used;
}

}  // namespace pikv
