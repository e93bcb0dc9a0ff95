// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "core/io/tokenizer/byte_alphabet.hpp"
#include "core/io/tokenizer/component_table.hpp"
#include "core/io/tokenizer/decoder.hpp"
#include "core/io/tokenizer/metaspace.hpp"
#include "core/io/tokenizer/pattern.hpp"
#include "core/io/tokenizer/utf8.hpp"

namespace pikv {
namespace {

/// A stage whose copies continue from the state of the original.
template <class Stage>
class CopyableStage : public DecoderStage {
 public:
  std::unique_ptr<DecoderStage> clone() const final {
    return std::make_unique<Stage>(static_cast<const Stage&>(*this));
  }
};

/// Puts the parts of a token together again.
class TokenGatherer {
 public:
  /// Whole tokens only: appends to the token in work and, where it ends, calls `take(token)`.
  template <class Take>
  void gather(std::vector<TokenPart>& parts, const Take& take) {
    for (TokenPart& part : parts) {
      token_ += part.text;
      if (part.ends_token) take(std::exchange(token_, {}));
    }
    parts.clear();
  }

 private:
  std::string token_;
};

class JoinWithSpaces final : public CopyableStage<JoinWithSpaces> {
 public:
  void run(std::vector<TokenPart>& parts) override {
    for (TokenPart& part : parts) {
      if (!std::exchange(at_first_, false)) part.text.insert(0, 1, ' ');
    }
  }

 private:
  bool at_first_ = true;
};

class FromByteAlphabet final : public CopyableStage<FromByteAlphabet> {
 public:
  void run(std::vector<TokenPart>& parts) override {
    gatherer_.gather(
        parts, [this](const std::string& token) { byte_alphabet::append_decoded(token, bytes_); });
    std::string text;
    bytes_.erase(0, utf8::append_lossy(bytes_, text));
    if (!text.empty()) parts.push_back({std::move(text), false});
  }

  void finish(std::vector<TokenPart>& parts) override {
    parts.push_back({bytes_.empty() ? "" : std::string(utf8::kReplacementCharacter), true});
  }

 private:
  TokenGatherer gatherer_;
  std::string bytes_;  // the beginning of a character, at most three bytes
};

/// Writes a space for each mark, but drops the marks of the first token if encoding prepends one.
class UnmarkSpaces final : public CopyableStage<UnmarkSpaces> {
 public:
  UnmarkSpaces(std::string mark, bool drop_in_first)
      : mark_(std::move(mark)), drops_(drop_in_first) {}

  void run(std::vector<TokenPart>& parts) override {
    for (TokenPart& part : parts) {
      std::string text;
      std::size_t begin = 0;
      for (std::size_t at = 0; (at = part.text.find(mark_, begin)) != std::string::npos;) {
        text.append(part.text, begin, at - begin);
        if (!drops_) text += ' ';
        begin = at + mark_.size();
      }
      text.append(part.text, begin);
      part.text = std::move(text);
      if (part.ends_token) drops_ = false;
    }
  }

 private:
  std::string mark_;
  bool drops_;
};

class ReplaceInTokens final : public CopyableStage<ReplaceInTokens> {
 public:
  ReplaceInTokens(std::shared_ptr<const Regex> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  ReplaceInTokens(const ReplaceInTokens& other) : ReplaceInTokens(other.pattern_, other.content_) {}

  void run(std::vector<TokenPart>& parts) override {
    if (!matcher_) matcher_.emplace(*pattern_);
    std::vector<TokenPart> replaced;
    gatherer_.gather(parts, [&](const std::string& token) {
      replaced.push_back({replace_all(*matcher_, token, content_), true});
    });
    parts = std::move(replaced);
  }

 private:
  std::shared_ptr<const Regex> pattern_;
  std::string content_;
  std::optional<RegexMatcher> matcher_;
  TokenGatherer gatherer_;
};

/// The byte that a token like "<0xE5>" stands for. One hexadecimal digit with a sign counts too, as
/// it does where the reference parses it.
std::optional<char> byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  std::string_view digits = token.substr(3, 2);
  if (digits.front() == '+') digits.remove_prefix(1);
  std::uint8_t byte = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), byte, /*base=*/16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return static_cast<char>(byte);
}

/// Joins runs of byte tokens. A run that is not UTF-8 as a whole becomes U+FFFD for each byte,
/// which is why nothing of a run is final before its end.
class JoinByteTokens final : public CopyableStage<JoinByteTokens> {
 public:
  void run(std::vector<TokenPart>& parts) override {
    std::vector<TokenPart> joined;
    gatherer_.gather(parts, [&](std::string token) {
      if (const std::optional<char> byte = byte_of(token)) {
        bytes_ += *byte;
        return;
      }
      end_run(joined);
      joined.push_back({std::move(token), true});
    });
    parts = std::move(joined);
  }

  void finish(std::vector<TokenPart>& parts) override { end_run(parts); }

 private:
  void end_run(std::vector<TokenPart>& parts) {
    if (bytes_.empty()) return;
    if (!utf8::find_invalid(bytes_)) {
      parts.push_back({std::move(bytes_), true});
    } else {
      for (std::size_t i = 0; i < bytes_.size(); ++i) {
        parts.push_back({std::string(utf8::kReplacementCharacter), true});
      }
    }
    bytes_.clear();
  }

  TokenGatherer gatherer_;
  std::string bytes_;
};

class FuseTokens final : public CopyableStage<FuseTokens> {
 public:
  void run(std::vector<TokenPart>& parts) override {
    for (TokenPart& part : parts) part.ends_token = false;
  }

  void finish(std::vector<TokenPart>& parts) override { parts.push_back({"", true}); }
};

/// Takes up to `start` copies of a character off the front of each token and `stop` off its end.
class StripTokens final : public CopyableStage<StripTokens> {
 public:
  StripTokens(std::string content, std::size_t start, std::size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  void run(std::vector<TokenPart>& parts) override {
    for (TokenPart& part : parts) {
      part.text = strip(part.text);
      if (part.ends_token) {
        num_stripped_ = 0;
        at_front_ = true;
        num_held_ = 0;
      }
    }
  }

 private:
  std::string strip(std::string_view text) {
    std::string out;
    std::size_t length = 0;
    for (std::size_t i = 0; i < text.size(); i += length) {
      length = utf8::length_from_lead(text[i]);
      const std::string_view character = text.substr(i, length);
      const bool matches = character == content_;
      at_front_ = at_front_ && matches && num_stripped_ < start_;
      if (at_front_) {
        ++num_stripped_;
      } else if (!matches) {
        for (; num_held_ > 0; --num_held_) out += content_;
        out += character;
      } else if (num_held_ < stop_) {
        ++num_held_;
      } else {
        out += content_;
      }
    }
    return out;
  }

  std::string content_;
  std::size_t start_;
  std::size_t stop_;
  std::size_t num_stripped_ = 0;
  bool at_front_ = true;
  std::size_t num_held_ = 0;  // copies that are stripped if the token ends with them
};

void read_byte_level(const JsonNode&, DecoderStages& stages) {
  stages.push_back(std::make_unique<FromByteAlphabet>());
}

void read_byte_fallback(const JsonNode&, DecoderStages& stages) {
  stages.push_back(std::make_unique<JoinByteTokens>());
}

void read_fuse(const JsonNode&, DecoderStages& stages) {
  stages.push_back(std::make_unique<FuseTokens>());
}

void read_replace(const JsonNode& node, DecoderStages& stages) {
  stages.push_back(std::make_unique<ReplaceInTokens>(
      std::make_shared<const Regex>(read_pattern(node.at("pattern"))),
      node.at("content").string()));
}

void read_strip(const JsonNode& node, DecoderStages& stages) {
  constexpr std::int64_t kMaxCount = 1'000'000;
  stages.push_back(std::make_unique<StripTokens>(
      read_character(node.at("content")),
      static_cast<std::size_t>(node.at("start").integer(0, kMaxCount)),
      static_cast<std::size_t>(node.at("stop").integer(0, kMaxCount))));
}

void read_unmark_spaces(const JsonNode& node, DecoderStages& stages) {
  const Metaspace metaspace = read_metaspace(node);
  stages.push_back(
      std::make_unique<UnmarkSpaces>(metaspace.mark, metaspace.scheme != PrependScheme::kNever));
}

constexpr std::array<ComponentKind<DecoderStages>, 6> kKinds = {{
    {"ByteFallback", read_byte_fallback},
    {"ByteLevel", read_byte_level},
    {"Fuse", read_fuse},
    {"Metaspace", read_unmark_spaces},
    {"Replace", read_replace},
    {"Strip", read_strip},
}};

}  // namespace

DecoderStages read_decoder(const JsonNode& node) {
  DecoderStages stages;
  read_component<DecoderStages>(node, kKinds, "decoders", stages);
  return stages;
}

DecoderStages make_byte_level_decoder() {
  DecoderStages stages;
  stages.push_back(std::make_unique<FromByteAlphabet>());
  return stages;
}

DecoderStages make_joining_decoder() {
  DecoderStages stages;
  stages.push_back(std::make_unique<JoinWithSpaces>());
  return stages;
}

}  // namespace pikv
