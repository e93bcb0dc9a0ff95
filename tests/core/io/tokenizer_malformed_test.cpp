// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Files that must be refused, each with one line that names the file and the cause.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/io/tokenizer/tokenizer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using nlohmann::json;

json valid_document() {
  return json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<s>", "single_word": false, "lstrip": false,
                      "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated",
                      "invert": false},
    "post_processor": {"type": "TemplateProcessing",
                       "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                  {"Sequence": {"id": "A", "type_id": 0}}],
                       "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<unk>": 3},
              "merges": ["a b"], "unk_token": "<unk>"}
  })");
}

/// The message of the BadFile that reading `text` throws, or what went wrong instead.
std::string complaint(const std::string& text) {
  try {
    (void)Tokenizer::from_json(text, "case.json");
  } catch (const BadFile& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("not a BadFile: ") + error.what();
  }
  return "accepted";
}

struct MalformedCase {
  const char* name;
  const char* patch;      // an RFC 7396 merge patch of the valid document
  const char* complaint;  // a part of the message
};

const MalformedCase kCases[] = {
    {"NotAnObject", "[]", "top level: is array, expected an object"},
    {"NoModel", R"({"model": null})", "has no key 'model'"},
    {"ModelIsAString", R"({"model": "BPE"})", "model: is string, expected an object"},
    {"UnknownModel", R"({"model": {"type": "Unigram"}})",
     "'Unigram' is not supported (known: BPE)"},
    {"NoVocabulary", R"({"model": {"vocab": null}})", "model: has no key 'vocab'"},
    {"VocabularyIsAnArray", R"({"model": {"vocab": [1]}})", "model.vocab: is array"},
    {"IdIsAString", R"({"model": {"vocab": {"a": "0"}}})", "the id of 'a' is no integer"},
    {"IdIsAFraction", R"({"model": {"vocab": {"a": 0.5}}})", "the id of 'a' is no integer"},
    {"IdIsNegative", R"({"model": {"vocab": {"a": -1}}})", "the id of 'a' is -1"},
    {"IdIsHuge", R"({"model": {"vocab": {"a": 4000000000}}})", "the id of 'a' is 4000000000"},
    {"IdWraps", R"({"model": {"vocab": {"a": 18446744073709551615}}})", "the id of 'a' is 1844"},
    {"TwoTokensOfOneId", R"({"model": {"vocab": {"b": 0}}})", "id 0 belongs to the tokens 'a'"},
    {"NoMerges", R"({"model": {"merges": null}})", "model: has no key 'merges'"},
    {"MergesAreAnObject", R"({"model": {"merges": {}}})", "model.merges: is object"},
    {"MergeIsANumber", R"({"model": {"merges": [1]}})", "neither a string nor an array of two"},
    {"MergeOfOnePart", R"({"model": {"merges": ["ab"]}})", "'ab' is not two parts"},
    {"MergeOfThreeParts", R"({"model": {"merges": ["a b a"]}})", "'a b a' is not two parts"},
    {"MergeArrayOfThree", R"({"model": {"merges": [["a", "b", "a"]]}})", "array of two strings"},
    {"MergeLeftUnknown", R"({"model": {"merges": ["z b"]}})", "the left part 'z' is not in"},
    {"MergeRightUnknown", R"({"model": {"merges": [["a", "z"]]}})", "the right part 'z' is not in"},
    {"MergeResultUnknown", R"({"model": {"merges": ["b a"]}})",
     "the result 'ba' is not in the voc"},
    {"UnknownTokenUnknown", R"({"model": {"unk_token": "?"}})",
     "model.unk_token: is not in the voc"},
    {"UnknownTokenIsANumber", R"({"model": {"unk_token": 3}})", "model.unk_token: is number"},
    {"Dropout", R"({"model": {"dropout": 0.1}})", "dropout is not supported"},
    {"SubwordPrefix", R"({"model": {"continuing_subword_prefix": "##"}})",
     "model.continuing_subword_prefix: is not supported"},
    {"WordSuffix", R"({"model": {"end_of_word_suffix": "</w>"}})", "model.end_of_word_suffix"},
    {"FlagIsANumber", R"({"model": {"byte_fallback": 1}})", "model.byte_fallback: is number"},
    {"Truncation", R"({"truncation": {"max_length": 5}})", "truncation: is not supported"},
    {"Padding", R"({"padding": {"pad_id": 0}})", "padding: is not supported"},
    {"UnknownNormalizer", R"({"normalizer": {"type": "Lowercase"}})",
     "normalizer: type 'Lowercase' is not supported (known: Sequence, NFC"},
    {"UnknownNormalizerInside", R"({"normalizer": {"normalizers": [{"type": "Nmt"}]}})",
     "normalizer.normalizers[0]: type 'Nmt'"},
    {"NormalizerWithoutType", R"({"normalizer": {"type": null}})", "normalizer.type: is null"},
    {"PrependWithoutText", R"({"normalizer": {"type": "Prepend"}})", "has no key 'prepend'"},
    {"UnknownPreTokenizer", R"({"pre_tokenizer": {"type": "Whitespace"}})",
     "pre_tokenizer: type 'Whitespace' is not supported"},
    {"BrokenRegex", R"({"pre_tokenizer": {"pattern": {"Regex": "(a"}}})", "is malformed at byte"},
    {"NestedClass", R"({"pre_tokenizer": {"pattern": {"Regex": "[a[b]]"}}})", "a class inside a"},
    {"ClassIntersection", R"({"pre_tokenizer": {"pattern": {"Regex": "[a&&b]"}}})", "intersection"},
    {"HexadecimalEscape", R"({"pre_tokenizer": {"pattern": {"Regex": "\\h"}}})", "\\h is not supp"},
    {"PossessiveRepetition", R"({"pre_tokenizer": {"pattern": {"Regex": "a{1,3}+"}}})",
     "possessive {n,m}+"},
    {"PatternOfNoKind", R"({"pre_tokenizer": {"pattern": {"Regex": null}}})",
     "neither 'String' nor"},
    {"UnknownBehavior", R"({"pre_tokenizer": {"behavior": "Merged"}})",
     "'Merged' is not supported"},
    {"SplitWithoutInvert", R"({"pre_tokenizer": {"invert": null}})",
     "pre_tokenizer.invert: is null"},
    {"MetaspaceOfTwoCharacters", R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "__"}})",
     "is not one character"},
    {"MetaspaceScheme",
     R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"}})",
     "type 'last' is not supported (known: always, first, never)"},
    {"MetaspaceContradiction",
     R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first",
                           "add_prefix_space": false}})",
     "contradicts"},
    {"UnknownPostProcessor", R"({"post_processor": {"type": "BertProcessing"}})",
     "post_processor: type 'BertProcessing' is not supported"},
    {"TemplateWithoutToken", R"({"post_processor": {"special_tokens": {"<s>": null}}})",
     "post_processor.special_tokens.<s>: is null"},
    {"TemplateIdUnknown", R"({"post_processor": {"special_tokens": {"<s>": {"ids": [9]}}}})",
     "id 9 is not in the vocabulary"},
    {"TemplateWithoutSequence", R"({"post_processor": {"single": []}})", "has no sequence A"},
    {"TemplateOfSequenceB", R"({"post_processor": {"single": [{"Sequence": {"id": "B"}}]}})",
     "only one sequence A"},
    {"UnknownDecoder", R"({"decoder": {"type": "WordPiece"}})",
     "decoder: type 'WordPiece' is not supported"},
    {"StripCountIsNegative",
     R"({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}})",
     "decoder.start: is -1"},
    {"AddedTokensAreAnObject", R"({"added_tokens": {}})", "added_tokens: is object"},
    {"AddedTokenWithoutId", R"({"added_tokens": [{"content": "x"}]})", "[0]: has no key 'id'"},
};

class MalformedTokenizer : public testing::TestWithParam<MalformedCase> {};

TEST_P(MalformedTokenizer, IsRefusedInOneLine) {
  json document = valid_document();
  const json patch = json::parse(GetParam().patch);
  // A merge patch cannot set null, which is a value of its own here.
  const auto nulls = [](auto& self, json& into, const json& from) -> void {
    for (const auto& [key, value] : from.items()) {
      if (value.is_object() && into.contains(key)) self(self, into[key], value);
      if (value.is_null()) into[key] = nullptr;
    }
  };
  document.merge_patch(patch);
  const bool drops_key = std::string(GetParam().complaint).find("has no key") != std::string::npos;
  if (patch.is_object() && !drops_key) nulls(nulls, document, patch);
  const std::string message = complaint(document.dump());
  EXPECT_NE(message.find(GetParam().complaint), std::string::npos) << message;
  EXPECT_EQ(message.find("case.json: "), 0U) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(Cases, MalformedTokenizer, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Tokenizer, AcceptsTheDocumentThatTheMalformedCasesAreMadeOf) {
  const Tokenizer tokenizer = Tokenizer::from_json(valid_document().dump(), "case.json");
  EXPECT_EQ(tokenizer.encode("abz"), (std::vector<TokenId>{4, 2, 3}));
}

TEST(Tokenizer, RejectsAMergeWhoseResultIsNotInTheVocabulary) {
  json document = valid_document();
  document["model"]["merges"].push_back("b b");
  EXPECT_EQ(complaint(document.dump()),
            "case.json: model.merges: merge: number 1: the result 'bb' is not in the vocabulary");
}

TEST(Tokenizer, RejectsTwoAddedTokensOfOneId) {
  json document = valid_document();
  document["added_tokens"].push_back(document["added_tokens"][0]);
  document["added_tokens"][1]["content"] = "</s>";
  EXPECT_NE(complaint(document.dump()).find("id 4 belongs to the tokens '<s>' and '</s>'"),
            std::string::npos);
}

TEST(Tokenizer, RejectsAnAddedTokenThatTheModelNumbersOtherwise) {
  json document = valid_document();
  document["added_tokens"][0]["content"] = "ab";
  EXPECT_NE(complaint(document.dump()).find("token 'ab' has the ids 2 and 4"), std::string::npos);
}

TEST(Tokenizer, RejectsAnyPrefixOfAFile) {
  const std::string text = valid_document().dump();
  for (std::size_t size = 0; size < text.size(); size += 7) {
    const std::string message = complaint(text.substr(0, size));
    EXPECT_EQ(message.find("case.json: not JSON: "), 0U) << message;
  }
}

TEST(Tokenizer, RejectsBytesThatAreNotUtf8InTheFile) {
  std::string text = valid_document().dump();
  text.insert(text.find("<unk>"), 1, '\xC3');
  EXPECT_EQ(complaint(text).find("case.json: not JSON: "), 0U);
}

TEST(Tokenizer, RejectsSequencesNestedWithoutEnd) {
  json nested = {{"type", "NFC"}};
  for (int i = 0; i < 1000; ++i) {
    nested = json{{"type", "Sequence"}, {"normalizers", json::array({std::move(nested)})}};
  }
  json document = valid_document();
  document["normalizer"] = std::move(nested);
  EXPECT_NE(complaint(document.dump()).find("nested too deeply"), std::string::npos);
}

TEST(Tokenizer, RejectsAFileThatIsNotThere) {
  EXPECT_THROW((void)Tokenizer::from_file("no/such/tokenizer.json"), BadFile);
  EXPECT_THROW((void)Tokenizer::from_file(std::filesystem::temp_directory_path()), BadFile);
}

TEST(Tokenizer, RejectsMalformedMergesOfGpt2) {
  const auto folder = std::filesystem::temp_directory_path();
  const auto vocabulary = folder / "pikv_tokenizer_test_vocab.json";
  const auto merges = folder / "pikv_tokenizer_test_merges.txt";
  std::ofstream(vocabulary) << R"({"a": 0, "b": 1, "ab": 2})";
  std::ofstream(merges) << "#version: 0.2\r\na b\r\n";
  EXPECT_EQ(Tokenizer::from_gpt2_files(vocabulary, merges).encode("ab"), std::vector<TokenId>{2});
  for (const char* const text : {"a\n", "a b c\n", "a z\n", "\n", "b a\n", "\xFF b\n"}) {
    std::ofstream(merges) << text;
    EXPECT_THROW((void)Tokenizer::from_gpt2_files(vocabulary, merges), BadFile) << text;
  }
  std::filesystem::remove(vocabulary);
  std::filesystem::remove(merges);
}

}  // namespace
}  // namespace pikv
