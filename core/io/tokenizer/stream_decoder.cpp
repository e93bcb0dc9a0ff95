// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/stream_decoder.hpp"

#include "core/io/tokenizer/tokenizer_parts.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer),
      skip_special_tokens_(skip_special_tokens),
      stream_(std::make_unique<DecoderStream>(tokenizer.parts_->decoder)) {}

StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::push(TokenId id) {
  const Vocabulary& vocabulary = tokenizer_.parts_->vocabulary;
  require(vocabulary.contains(id), "decode", "no token has the id ", id, " (vocabulary of ",
          vocabulary.size(), ")");
  std::string text;
  if (!(skip_special_tokens_ && vocabulary.is_special(id))) {
    stream_->push(tokenizer_.parts_->text_to_decode(id), text);
  }
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  stream_->finish(text);
  *stream_ = DecoderStream(tokenizer_.parts_->decoder);
  return text;
}

}  // namespace pikv
