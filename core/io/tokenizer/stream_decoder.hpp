// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Decodes tokens as a model produces them. The pieces, joined, equal Tokenizer::decode of all the
// tokens; none ends within a character, and nothing is ever taken back. A token whose bytes do not
// complete a character yields an empty piece, and the text follows with a later one.
// Amortised cost per token is O(its length). One thread per decoder.
#pragma once

#include <memory>
#include <string>

#include "core/base/ids.hpp"
#include "core/io/tokenizer/tokenizer.hpp"

namespace pikv {

class DecoderStream;

class StreamDecoder {
 public:
  /// Shares the tokenizer, which need not outlive it.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = false);
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;
  ~StreamDecoder();

  /// The text that `id` makes final. InvalidArgument, with nothing changed, for an id that no token
  /// has.
  [[nodiscard]] std::string push(TokenId id);
  /// The rest; the decoder is then ready for a new sequence.
  [[nodiscard]] std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  std::unique_ptr<DecoderStream> stream_;
};

}  // namespace pikv
