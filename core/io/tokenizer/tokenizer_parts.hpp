// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a tokenizer consists of, in the order in which text passes through it, and the readers of
// the two file formats. Internal to the tokenizer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/io/tokenizer/added_tokens.hpp"
#include "core/io/tokenizer/bpe.hpp"
#include "core/io/tokenizer/decoder.hpp"
#include "core/io/tokenizer/normalizer.hpp"
#include "core/io/tokenizer/post_processor.hpp"
#include "core/io/tokenizer/pre_tokenizer.hpp"
#include "core/io/tokenizer/vocabulary.hpp"

namespace pikv {

/// Immutable once read. Never moved: the model refers to the vocabulary.
struct TokenizerParts {
  Vocabulary vocabulary;
  std::optional<AddedTokenMatcher> raw_tokens;  // sought before normalization
  Normalizers normalizers;
  std::optional<AddedTokenMatcher> normalized_tokens;
  PreTokenizers pre_tokenizers;
  std::optional<BpeModel> model;
  PostProcessor post_processor;
  DecoderStages decoder;
  // Added tokens that the normalizers change are decoded to their changed form, as in the
  // reference.
  std::unordered_map<TokenId, std::string> normalized_texts;

  TokenizerParts() = default;
  TokenizerParts(const TokenizerParts&) = delete;
  TokenizerParts& operator=(const TokenizerParts&) = delete;

  /// Adds `tokens` to the vocabulary and prepares the search for them; after the normalizers.
  void set_added_tokens(std::vector<AddedToken> tokens);

  /// What the decoder is given for a token; the vocabulary must contain the id.
  [[nodiscard]] std::string_view text_to_decode(TokenId id) const;
};

/// Runs `text` through `normalizers`.
[[nodiscard]] std::string normalize(const Normalizers& normalizers, std::string text);

/// Reads a tokenizer.json. BadFile with one line that names `source_name` and the place in it.
[[nodiscard]] std::shared_ptr<const TokenizerParts> read_tokenizer_json(
    std::string_view json, std::string_view source_name);

/// Reads the vocabulary and the merges of GPT-2.
[[nodiscard]] std::shared_ptr<const TokenizerParts> read_gpt2(std::string_view vocabulary_json,
                                                              std::string_view vocabulary_name,
                                                              std::string_view merges_text,
                                                              std::string_view merges_name);

}  // namespace pikv
