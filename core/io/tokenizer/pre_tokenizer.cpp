// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/pre_tokenizer.hpp"

#include <array>
#include <optional>
#include <utility>

#include "core/io/tokenizer/byte_alphabet.hpp"
#include "core/io/tokenizer/component_table.hpp"
#include "core/io/tokenizer/metaspace.hpp"
#include "core/io/tokenizer/pattern.hpp"
#include "core/io/tokenizer/split.hpp"

namespace pikv {
namespace {

/// The expression of GPT-2: Radford et al. 2019, the published encoder.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class Split final : public PreTokenizer {
 public:
  Split(Regex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

 private:
  void do_apply(PieceList& list) const override {
    RegexMatcher matcher(pattern_);
    std::vector<Piece> pieces;
    std::vector<TextRange> parts;
    for (const Piece& piece : list.pieces) {
      split(matcher, list.view(piece), behavior_, invert_, parts);
      for (const TextRange& part : parts) {
        pieces.push_back({piece.begin + part.begin, piece.begin + part.end,
                          piece.starts_text && part.begin == 0});
      }
    }
    list.pieces = std::move(pieces);
  }

  Regex pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Rewrites the list piece by piece: `append(piece, text, out)` appends what stands for a piece.
template <class Append>
void rewrite(PieceList& list, const Append& append) {
  std::string text;
  text.reserve(list.text.size() + list.text.size() / 4);
  for (Piece& piece : list.pieces) {
    const std::size_t begin = text.size();
    append(piece, list.view(piece), text);
    piece.begin = begin;
    piece.end = text.size();
  }
  list.text = std::move(text);
}

class ToByteAlphabet final : public PreTokenizer {
  void do_apply(PieceList& list) const override {
    rewrite(list, [](const Piece&, std::string_view text, std::string& out) {
      byte_alphabet::append_encoded(text, out);
    });
  }
};

/// Writes `mark` for each space and before the pieces that `scheme` names, unless they begin with
/// it.
class MarkSpaces final : public PreTokenizer {
 public:
  MarkSpaces(std::string mark, PrependScheme scheme) : mark_(std::move(mark)), scheme_(scheme) {}

 private:
  void do_apply(PieceList& list) const override {
    rewrite(list, [this](const Piece& piece, std::string_view text, std::string& out) {
      const bool prepends = scheme_ == PrependScheme::kAlways ||
                            (scheme_ == PrependScheme::kFirst && piece.starts_text);
      if (prepends && !text.starts_with(' ') && !text.starts_with(mark_)) out += mark_;
      for (const char c : text) {
        if (c == ' ') {
          out += mark_;
        } else {
          out += c;
        }
      }
    });
  }

  std::string mark_;
  PrependScheme scheme_;
};

void add_split(PreTokenizers& parts, std::string_view pattern, SplitBehavior behavior) {
  parts.push_back(std::make_unique<Split>(Regex::from_oniguruma(pattern), behavior, false));
}

void add_byte_level(PreTokenizers& parts, bool add_prefix_space, bool use_regex) {
  if (add_prefix_space) {
    parts.push_back(std::make_unique<MarkSpaces>(" ", PrependScheme::kAlways));
  }
  if (use_regex) add_split(parts, kGpt2Pattern, SplitBehavior::kIsolated);
  parts.push_back(std::make_unique<ToByteAlphabet>());
}

SplitBehavior read_behavior(const JsonNode& node) {
  constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {{
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  }};
  const std::string name = node.string();
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) return behavior;
  }
  node.fail_unknown_type(name, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

void read_byte_level(const JsonNode& node, PreTokenizers& parts) {
  add_byte_level(parts, node.at("add_prefix_space").boolean(), node.boolean_or("use_regex", true));
}

void read_split(const JsonNode& node, PreTokenizers& parts) {
  parts.push_back(std::make_unique<Split>(read_pattern(node.at("pattern")),
                                          read_behavior(node.at("behavior")),
                                          node.at("invert").boolean()));
}

void read_digits(const JsonNode& node, PreTokenizers& parts) {
  const bool individual = node.at("individual_digits").boolean();
  add_split(parts, R"(\p{N})", individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

void read_punctuation(const JsonNode& node, PreTokenizers& parts) {
  const std::optional<JsonNode> behavior = node.find("behavior");
  add_split(parts, R"([!-\/:-@\[-`{-~\p{P}])",
            behavior ? read_behavior(*behavior) : SplitBehavior::kIsolated);
}

void read_mark_spaces(const JsonNode& node, PreTokenizers& parts) {
  const Metaspace metaspace = read_metaspace(node);
  parts.push_back(std::make_unique<MarkSpaces>(metaspace.mark, metaspace.scheme));
  if (metaspace.split) {
    parts.push_back(std::make_unique<Split>(Regex::literal(metaspace.mark),
                                            SplitBehavior::kMergedWithNext, false));
  }
}

constexpr std::array<ComponentKind<PreTokenizers>, 5> kKinds = {{
    {"ByteLevel", read_byte_level},
    {"Digits", read_digits},
    {"Metaspace", read_mark_spaces},
    {"Punctuation", read_punctuation},
    {"Split", read_split},
}};

}  // namespace

PreTokenizers read_pre_tokenizers(const JsonNode& node) {
  PreTokenizers parts;
  read_component<PreTokenizers>(node, kKinds, "pretokenizers", parts);
  return parts;
}

PreTokenizers make_gpt2_pre_tokenizers() {
  PreTokenizers parts;
  add_byte_level(parts, /*add_prefix_space=*/false, /*use_regex=*/true);
  return parts;
}

}  // namespace pikv
