// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Text to token ids and back, as a Hugging Face tokenizer.json describes it: byte-pair models, with
// or without the byte alphabet of GPT-2 or the byte fallback of SentencePiece. The ids equal those
// of the `tokenizers` library; what a file asks for beyond the supported components is an error
// when it is read, never a different id later.
//
// Source: the tokenizers library, github.com/huggingface/tokenizers, versions 0.19 to 0.23.
// Deviations: an added token keeps the id that the file states, even where the library would
// renumber it; an id that two tokens share is an error. The Unicode data is that of PCRE2 and
// utf8proc, where the library uses tables of several ages, some of Unicode 9: characters younger
// than that may be normalized or split otherwise.
//
// Complexity: encode is O(n log n) in the bytes of the text, near O(n) for natural text; decode is
// O(n) in the bytes it returns.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

struct TokenizerParts;

struct EncodeOptions {
  /// Runs the post-processor, which adds for instance the beginning-of-sequence token.
  bool add_special_tokens = true;
  /// Recognises special tokens written in the text; text from strangers should be encoded without.
  /// Added tokens that are not special (runs of spaces, for instance) are recognised always.
  bool parse_special_tokens = true;
};

/// A cheap handle on an immutable tokenizer; copies share it. All members may be called by any
/// number of threads at once.
class Tokenizer {
 public:
  /// Read a tokenizer.json. BadFile, with one line, if it is missing, malformed or unsupported.
  [[nodiscard]] static Tokenizer from_file(const std::filesystem::path& path);
  [[nodiscard]] static Tokenizer from_json(std::string_view json, std::string_view source_name);
  /// Reads the pair of files of GPT-2: encoder.json and vocab.bpe, or vocab.json and merges.txt.
  [[nodiscard]] static Tokenizer from_gpt2_files(const std::filesystem::path& vocabulary,
                                                 const std::filesystem::path& merges);

  /// The ids of `utf8`. InvalidArgument if it is not UTF-8; the message says at which byte.
  [[nodiscard]] std::vector<TokenId> encode(std::string_view utf8,
                                            const EncodeOptions& options = {}) const;

  /// The text of `ids`, with U+FFFD for bytes that are not UTF-8. InvalidArgument for an id that no
  /// token has.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids,
                                   bool skip_special_tokens = false) const;

  [[nodiscard]] std::optional<TokenId> id_of(std::string_view token) const;
  /// The text of a token as the vocabulary spells it; valid as long as the tokenizer or a copy of
  /// it. InvalidArgument for an id that no token has.
  [[nodiscard]] std::string_view token(TokenId id) const;
  /// Whether the id is one of a special token; false for an id that no token has.
  [[nodiscard]] bool is_special(TokenId id) const;
  /// One past the largest id.
  [[nodiscard]] std::size_t vocab_size() const;

 private:
  friend class StreamDecoder;

  explicit Tokenizer(std::shared_ptr<const TokenizerParts> parts);

  std::shared_ptr<const TokenizerParts> parts_;
};

}  // namespace pikv
