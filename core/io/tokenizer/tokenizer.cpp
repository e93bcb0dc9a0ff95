// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/tokenizer.hpp"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "core/io/tokenizer/stream_decoder.hpp"
#include "core/io/tokenizer/tokenizer_parts.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw BadFile(fmt::format("{}: cannot be opened", path.string()));
  }
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw BadFile(fmt::format("{}: cannot be read", path.string()));
  return text;
}

/// One call of encode: the tokenizer's parts, and what they append to.
class Encoding {
 public:
  Encoding(const TokenizerParts& parts, bool parse_special)
      : parts_(&parts), parse_special_(parse_special), encoder_(*parts.model) {}

  void add_text(std::string_view text) {
    for (const Segment& segment : parts_->raw_tokens->split(text, parse_special_)) {
      if (segment.token != Segment::kText) {
        ids_.push_back(segment.token);
        continue;
      }
      const std::size_t length = segment.range.end - segment.range.begin;
      add_raw(text.substr(segment.range.begin, length), segment.range.begin == 0);
    }
  }

  void add_ids(std::span<const TokenId> ids) { ids_.insert(ids_.end(), ids.begin(), ids.end()); }

  [[nodiscard]] std::vector<TokenId> take() { return std::move(ids_); }

 private:
  void add_raw(std::string_view text, bool starts_text) {
    std::string normalized = normalize(parts_->normalizers, std::string(text));
    const std::vector<Segment> segments =
        parts_->normalized_tokens->split(normalized, parse_special_);
    const bool is_whole = segments.size() == 1 && segments.front().token == Segment::kText;
    if (is_whole) return add_normalized(std::move(normalized), starts_text);
    for (const Segment& segment : segments) {
      if (segment.token != Segment::kText) {
        ids_.push_back(segment.token);
        continue;
      }
      const std::size_t length = segment.range.end - segment.range.begin;
      add_normalized(normalized.substr(segment.range.begin, length),
                     starts_text && segment.range.begin == 0);
    }
  }

  void add_normalized(std::string text, bool starts_text) {
    PieceList list{std::move(text), {}};
    list.pieces.push_back({0, list.text.size(), starts_text});
    for (const auto& pre_tokenizer : parts_->pre_tokenizers) pre_tokenizer->apply(list);
    for (const Piece& piece : list.pieces) encoder_.encode(list.view(piece), ids_);
  }

  const TokenizerParts* parts_;
  bool parse_special_;
  BpeEncoder encoder_;
  std::vector<TokenId> ids_;
};

}  // namespace

Tokenizer::Tokenizer(std::shared_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return from_json(read_file(path), path.string());
}

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view source_name) {
  return Tokenizer(read_tokenizer_json(json, source_name));
}

Tokenizer Tokenizer::from_gpt2_files(const std::filesystem::path& vocabulary,
                                     const std::filesystem::path& merges) {
  return Tokenizer(
      read_gpt2(read_file(vocabulary), vocabulary.string(), read_file(merges), merges.string()));
}

std::vector<TokenId> Tokenizer::encode(std::string_view utf8, const EncodeOptions& options) const {
  const std::optional<std::size_t> invalid = utf8::find_invalid(utf8);
  require(!invalid, "encode", "the text is not UTF-8 at byte ", invalid.value_or(0));
  Encoding encoding(*parts_, options.parse_special_tokens);
  if (options.add_special_tokens) encoding.add_ids(parts_->post_processor.prefix);
  encoding.add_text(utf8);
  if (options.add_special_tokens) encoding.add_ids(parts_->post_processor.suffix);
  return encoding.take();
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  StreamDecoder decoder(*this, skip_special_tokens);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  text += decoder.finish();
  return text;
}

std::optional<TokenId> Tokenizer::id_of(std::string_view token) const {
  return parts_->vocabulary.id_of(token);
}

std::string_view Tokenizer::token(TokenId id) const {
  require(parts_->vocabulary.contains(id), "token", "no token has the id ", id, " (vocabulary of ",
          vocab_size(), ")");
  return parts_->vocabulary.text(id);
}

bool Tokenizer::is_special(TokenId id) const {
  return parts_->vocabulary.contains(id) && parts_->vocabulary.is_special(id);
}

std::size_t Tokenizer::vocab_size() const { return parts_->vocabulary.size(); }

}  // namespace pikv
