// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Byte-pair encoding against its definition, and the translation of regular expressions.
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/io/tokenizer/bpe.hpp"
#include "core/io/tokenizer/oniguruma.hpp"
#include "core/io/tokenizer/regex.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// A vocabulary over four letters with random merges.
struct RandomModel {
  explicit RandomModel(unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::string> texts = {"a", "b", "c", "d"};
    for (std::size_t i = 0; i < texts.size(); ++i) {
      vocabulary.insert_model_token(texts[i], static_cast<TokenId>(i));
    }
    for (std::uint32_t rank = 0; rank < 60; ++rank) {
      const std::string left = texts[random() % texts.size()];
      const std::string right = texts[random() % texts.size()];
      if (!vocabulary.id_of(left + right)) {
        vocabulary.insert_model_token(left + right, static_cast<TokenId>(texts.size()));
        texts.push_back(left + right);
      }
      rules.push_back({*vocabulary.id_of(left), *vocabulary.id_of(right),
                       *vocabulary.id_of(left + right), rank});
    }
  }

  /// The definition: merge the leftmost pair of the lowest rank until there is none.
  [[nodiscard]] std::vector<TokenId> encode_by_definition(const std::string& piece) const {
    std::vector<TokenId> ids;
    for (const char c : piece) ids.push_back(*vocabulary.id_of(std::string(1, c)));
    const MergeTable table(rules, vocabulary.size());
    while (true) {
      std::size_t best = ids.size();
      std::uint32_t best_rank = std::numeric_limits<std::uint32_t>::max();
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        const MergeTable::Rule* const rule = table.find(ids[i], ids[i + 1]);
        if (rule != nullptr && rule->rank < best_rank) {
          best = i;
          best_rank = rule->rank;
        }
      }
      if (best == ids.size()) return ids;
      ids[best] = table.find(ids[best], ids[best + 1])->result;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }

  Vocabulary vocabulary;
  std::vector<MergeTable::Rule> rules;
};

TEST(BpeEncoder, MergesPiecesOfAnyLengthByTheDefinition) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    const RandomModel random_model(seed);
    const BpeModel model(random_model.vocabulary,
                         MergeTable(random_model.rules, random_model.vocabulary.size()), {});
    BpeEncoder encoder(model);
    std::mt19937 random(seed);
    for (std::size_t length = 0; length < 150; ++length) {
      std::string piece;
      while (piece.size() < length) piece += "abcd"[random() % 4];
      std::vector<TokenId> ids;
      encoder.encode(piece, ids);
      EXPECT_EQ(ids, random_model.encode_by_definition(piece)) << piece;
      std::vector<TokenId> again;
      encoder.encode(piece, again);
      EXPECT_EQ(again, ids) << "from the cache";
    }
  }
}

TEST(MergeTable, TakesTheLaterOfTwoRulesForOnePair) {
  const MergeTable table({{0, 1, 2, 0}, {1, 0, 3, 1}, {0, 1, 2, 2}}, 4);
  ASSERT_NE(table.find(0, 1), nullptr);
  EXPECT_EQ(table.find(0, 1)->rank, 2U);
  EXPECT_EQ(table.find(1, 1), nullptr);
}

TEST(BpeEncoder, GivesARunOfUnknownCharactersOneTokenWhenFused) {
  Vocabulary vocabulary;
  vocabulary.insert_model_token("a", 0);
  vocabulary.insert_model_token("?", 1);
  for (const bool fuses : {false, true}) {
    const BpeModel model(vocabulary, MergeTable({}, 2), {.unknown = 1, .fuse_unknown = fuses});
    std::vector<TokenId> ids;
    BpeEncoder(model).encode("azza\u00e9", ids);
    EXPECT_EQ(ids,
              fuses ? (std::vector<TokenId>{0, 1, 0, 1}) : (std::vector<TokenId>{0, 1, 1, 0, 1}));
  }
}

std::vector<std::string> matches(const Regex& regex, const std::string& text) {
  RegexMatcher matcher(regex);
  matcher.reset(text);
  std::vector<std::string> found;
  while (const std::optional<TextRange> match = matcher.next()) {
    found.push_back(text.substr(match->begin, match->end - match->begin));
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(Regex, ReadsOnigurumaWhereTheDialectsDiffer) {
  EXPECT_EQ(matches(Regex::from_oniguruma("\\s"), "\u180e\u0085\u3000 "),
            (Strings{"\u0085", "\u3000", " "}));
  EXPECT_EQ(matches(Regex::from_oniguruma("\\w+"), "a\u0301_\u203f\u00b2 \u2155"),
            (Strings{"a\u0301_\u203f\u00b2"}));
  EXPECT_EQ(matches(Regex::from_oniguruma("[\\w]+"), "a_\u00b2"), (Strings{"a_"}));
  EXPECT_EQ(matches(Regex::from_oniguruma("[^\\w]"), "a\u0301-"), (Strings{"-"}));
  EXPECT_EQ(matches(Regex::from_oniguruma("\\bb"), "ab b\u0301b"), (Strings{"b"}));
  EXPECT_EQ(matches(Regex::from_oniguruma("\\u0061"), "ba"), (Strings{"a"}));
  EXPECT_EQ(matches(Regex::from_oniguruma("^a|b$"), "a\nab\nb"), (Strings{"a", "a", "b", "b"}));
}

TEST(Regex, WalksEmptyMatchesByCharacter) {
  EXPECT_EQ(matches(Regex::from_oniguruma("x*"), "\u00e9xx\u00e9").size(), 3U);
  EXPECT_EQ(matches(Regex::literal(""), "\u00e9\u00e9").size(), 3U);
  EXPECT_EQ(matches(Regex::literal("."), "a.b"), (Strings{"."}));
}

TEST(Regex, ThrowsWhenASearchExhaustsItsLimit) {
  const Regex explosive = Regex::from_oniguruma("(?:a|a)*(?:a|a)*(?:a|a)*b|(a*)*c");
  EXPECT_THROW((void)matches(explosive, std::string(200, 'a')), Error);
}

TEST(Regex, RefusesWhatWouldSilentlyMeanSomethingElse) {
  for (const char* const pattern :
       {"\\h", "a\\K", "\\R", "[\\W]", "[a[b]]", "[a&&b]", "a{2}+", "(?m:.)", "[]a]"}) {
    EXPECT_THROW((void)translate_oniguruma(pattern), InvalidArgument) << pattern;
  }
  EXPECT_EQ(translate_oniguruma("\\p{L}+(?i:'s)[[:alpha:]x\\]]"), "\\p{L}+(?i:'s)[[:alpha:]x\\]]");
}

}  // namespace
}  // namespace pikv
