// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Reads the vocabulary and the merge rules of a byte-pair model.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "core/io/tokenizer/bpe.hpp"
#include "core/io/tokenizer/json_node.hpp"
#include "core/io/tokenizer/vocabulary.hpp"

namespace pikv {

/// Adds the tokens of an object {"token": id, ...}.
void read_vocabulary(const JsonNode& node, Vocabulary& vocabulary);

/// Collects merge rules by the texts of their parts; ranks count up from 0.
class MergeReader {
 public:
  explicit MergeReader(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {}

  /// Throw InvalidArgument unless the parts and the result are tokens of the model.
  void add(std::string_view left, std::string_view right);
  /// "left right", with one space.
  void add_line(std::string_view line);

  [[nodiscard]] MergeTable finish() && { return {std::move(rules_), vocabulary_->size()}; }

 private:
  [[nodiscard]] TokenId id_of(std::string_view text, std::string_view role) const;

  const Vocabulary* vocabulary_;
  std::vector<MergeTable::Rule> rules_;
};

/// Reads the component "model". `vocabulary` must be empty, and outlive the model.
[[nodiscard]] BpeModel read_model(const JsonNode& node, Vocabulary& vocabulary);

}  // namespace pikv
