// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/io/tokenizer/bpe.hpp"
#include "core/io/tokenizer/utf8.hpp"

namespace pikv {

MergeTable::MergeTable(std::vector<Rule> rules, std::size_t num_tokens)
    : rules_(std::move(rules)), row_begins_(num_tokens + 1, 0) {
  std::sort(rules_.begin(), rules_.end(), [](const Rule& a, const Rule& b) {
    if (a.left != b.left) return a.left < b.left;
    return a.right != b.right ? a.right < b.right : a.rank > b.rank;
  });
  const auto same_pair = [](const Rule& a, const Rule& b) {
    return a.left == b.left && a.right == b.right;
  };
  rules_.erase(std::unique(rules_.begin(), rules_.end(), same_pair), rules_.end());
  for (const Rule& rule : rules_) ++row_begins_[static_cast<std::size_t>(rule.left) + 1];
  for (std::size_t i = 1; i < row_begins_.size(); ++i) row_begins_[i] += row_begins_[i - 1];
}

const MergeTable::Rule* MergeTable::find(TokenId left, TokenId right) const {
  const auto row = static_cast<std::size_t>(left);
  const Rule* const begin = rules_.data() + row_begins_[row];
  const Rule* const end = rules_.data() + row_begins_[row + 1];
  const Rule* const rule = std::lower_bound(
      begin, end, right, [](const Rule& candidate, TokenId id) { return candidate.right < id; });
  return rule != end && rule->right == right ? rule : nullptr;
}

BpeModel::BpeModel(const Vocabulary& vocabulary, MergeTable merges, const BpeOptions& options)
    : vocabulary_(&vocabulary), merges_(std::move(merges)), options_(options) {
  for (std::uint32_t code_point = 0; code_point < kNumDirectCodePoints; ++code_point) {
    std::string character;
    utf8::append_code_point(code_point, character);
    direct_ids_[code_point] = vocabulary.model_id_of(character).value_or(kNone);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary.model_id_of(fmt::format("<0x{:02X}>", byte)).value_or(kNone);
  }
}

std::optional<TokenId> BpeModel::character_id(std::string_view character) const {
  const std::uint32_t code_point = utf8::first_code_point(character);
  if (code_point >= kNumDirectCodePoints) return vocabulary_->model_id_of(character);
  const TokenId id = direct_ids_[code_point];
  return id == kNone ? std::nullopt : std::optional(id);
}

std::optional<TokenId> BpeModel::byte_id(unsigned char byte) const {
  const TokenId id = byte_ids_[byte];
  return id == kNone ? std::nullopt : std::optional(id);
}

}  // namespace pikv
