// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Decoders turn the texts of tokens into the text they spell. Each stage is a transducer over a
// stream of tokens, so that one implementation serves whole sequences and streams alike: what a
// stage emits is final, and it holds back only what later tokens may change.
//
// A token may travel in parts, because a stage that fuses all tokens into one (ByteLevel, Fuse)
// must not wait for the last. A stage that needs whole tokens (Replace, ByteFallback) behind such a
// stage does wait for it; no published tokenizer has that order.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/tokenizer/json_node.hpp"

namespace pikv {

struct TokenPart {
  std::string text;
  bool ends_token;
};

/// One thread. A stage in the tokenizer is a prototype that was never run.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  [[nodiscard]] virtual std::unique_ptr<DecoderStage> clone() const = 0;

  /// Replaces the parts that arrived by those that are now final.
  virtual void run(std::vector<TokenPart>& parts) = 0;
  /// Appends what was held back; the last call.
  virtual void finish(std::vector<TokenPart>& /*parts*/) {}
};

using DecoderStages = std::vector<std::unique_ptr<const DecoderStage>>;

/// Reads a component and, for a Sequence, its parts in order. BadFile for an unknown kind.
[[nodiscard]] DecoderStages read_decoder(const JsonNode& node);

/// The decoder of GPT-2: out of the byte alphabet.
[[nodiscard]] DecoderStages make_byte_level_decoder();

/// What the reference does without a decoder: tokens with a space between them.
[[nodiscard]] DecoderStages make_joining_decoder();

/// A chain of stages in motion. Amortised cost per token is O(its length).
class DecoderStream {
 public:
  explicit DecoderStream(const DecoderStages& prototypes);

  /// Takes the text of the next token and appends to `out` what became final.
  void push(std::string_view token, std::string& out);
  /// Appends the rest; the last call.
  void finish(std::string& out);

 private:
  std::vector<std::unique_ptr<DecoderStage>> stages_;
  std::vector<TokenPart> parts_;
};

}  // namespace pikv
