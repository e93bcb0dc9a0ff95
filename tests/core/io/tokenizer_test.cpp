// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The tokenizer against the reference: every file of tests/data/tokenizers was written by it.
#include "core/io/tokenizer/tokenizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/io/tokenizer/pre_tokenizer.hpp"
#include "core/io/tokenizer/stream_decoder.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

const fs::path kFixtures = fs::path(PIKV_TEST_DATA_DIR) / "tokenizers";
const fs::path kShared = PIKV_SHARED_DIR;

nlohmann::json read_json(const fs::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return nlohmann::json::parse(file);
}

Tokenizer fixture(const std::string& name) {
  return Tokenizer::from_file(kFixtures / (name + ".json"));
}

std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const TokenId id : ids) {
    const std::string piece = decoder.push(id);
    EXPECT_FALSE(utf8::find_invalid(piece)) << "a piece ends within a character";
    text += piece;
  }
  return text + decoder.finish();
}

void expect_equals_reference(const Tokenizer& tokenizer, const fs::path& expected) {
  const nlohmann::json cases = read_json(expected);
  ASSERT_FALSE(cases.empty());
  for (const nlohmann::json& c : cases) {
    SCOPED_TRACE(c["text"].dump());
    const auto text = c["text"].get<std::string>();
    const auto ids = c["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer.encode(text), ids);
    if (!c.contains("decoded")) continue;
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false}),
              c["plain_ids"].get<std::vector<TokenId>>());
    EXPECT_EQ(tokenizer.decode(ids), c["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(ids, true), c["decoded_without_special"].get<std::string>());
    EXPECT_EQ(stream(tokenizer, ids), c["decoded"].get<std::string>());
  }
}

class TokenizerFixture : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerFixture, EqualsTheReference) {
  const std::string name = GetParam();
  expect_equals_reference(fixture(name), kFixtures / (name + "_expected.json"));
}

TEST_P(TokenizerFixture, StreamsWhatItDecodesForRandomIds) {
  const Tokenizer tokenizer = fixture(GetParam());
  constexpr unsigned kSeed = 20260117;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  std::uniform_int_distribution<std::size_t> pick(0, tokenizer.vocab_size() - 1);
  for (int round = 0; round < 200; ++round) {
    std::vector<TokenId> ids(random() % 40);
    for (TokenId& id : ids) id = static_cast<TokenId>(pick(random));
    EXPECT_EQ(stream(tokenizer, ids), tokenizer.decode(ids));
  }
}

INSTANTIATE_TEST_SUITE_P(OwnFixtures, TokenizerFixture,
                         testing::Values("llama_normalizer", "llama_metaspace", "added_tokens",
                                         "byte_level"));

TEST(Tokenizer, EqualsTheReferenceForTheTinyModel) {
  expect_equals_reference(
      Tokenizer::from_file(fs::path(PIKV_MODELS_DIR) / "tiny-moe" / "tokenizer.json"),
      kFixtures / "tiny_moe_expected.json");
}

TEST(Tokenizer, EqualsTheReferenceForGpt2) {
  const fs::path folder = kShared / "tokenizers" / "gpt2";
  if (!fs::exists(folder / "vocab.bpe")) GTEST_SKIP() << "the files of GPT-2 are not here";
  const Tokenizer tokenizer =
      Tokenizer::from_gpt2_files(folder / "encoder.json", folder / "vocab.bpe");
  expect_equals_reference(tokenizer, kFixtures / "gpt2_expected.json");
  // The published tests of the encoder.
  EXPECT_EQ(tokenizer.encode("indivisible"), (std::vector<TokenId>{521, 452, 12843}));
  EXPECT_EQ(tokenizer.encode("hello \U0001f44b world \U0001f30d"),
            (std::vector<TokenId>{31373, 50169, 233, 995, 12520, 234, 235}));
  EXPECT_TRUE(tokenizer.is_special(50256));
}

TEST(Tokenizer, EqualsTheReferenceForQwen3) {
  const fs::path packed = kShared / "tokenizers" / "qwen3" / "tokenizer.json.xz";
  if (!fs::exists(packed)) GTEST_SKIP() << "the tokenizer of Qwen3 is not here";
  const std::string command = "xz -dc '" + packed.string() + "' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), &pclose);
  std::string json;
  std::vector<char> buffer(1 << 16);
  while (pipe != nullptr) {
    const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe.get());
    if (count == 0) break;
    json.append(buffer.data(), count);
  }
  if (json.empty()) GTEST_SKIP() << "xz cannot be run";
  const Tokenizer tokenizer = Tokenizer::from_json(json, "qwen3");
  EXPECT_EQ(tokenizer.vocab_size(), 151669U);
  expect_equals_reference(tokenizer, kFixtures / "qwen3_expected.json");
}

TEST(Tokenizer, PreTokenizersCutAsTheReferenceDoes) {
  for (const nlohmann::json& c : read_json(kFixtures / "split_expected.json")) {
    SCOPED_TRACE(c["pre_tokenizer"].dump());
    const PreTokenizers stages = read_pre_tokenizers(JsonNode(c["pre_tokenizer"], "case"));
    for (std::size_t i = 0; i < c["texts"].size(); ++i) {
      PieceList list{c["texts"][i].get<std::string>(), {}};
      SCOPED_TRACE(list.text);
      if (!list.text.empty()) list.pieces.push_back({0, list.text.size(), true});
      for (const auto& stage : stages) stage->apply(list);
      std::vector<std::string> pieces;
      for (const Piece& piece : list.pieces) pieces.emplace_back(list.view(piece));
      EXPECT_EQ(pieces, c["pieces"][i].get<std::vector<std::string>>());
    }
  }
}

TEST(Tokenizer, ReadsSpecialTokensAsTextWhenToldSo) {
  const Tokenizer tokenizer = fixture("byte_level");
  const TokenId end = tokenizer.id_of("<|endoftext|>").value();
  EXPECT_TRUE(tokenizer.is_special(end));
  EXPECT_EQ(tokenizer.encode("<|endoftext|>"), std::vector<TokenId>{end});
  const std::vector<TokenId> plain =
      tokenizer.encode("<|endoftext|>", {.parse_special_tokens = false});
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(tokenizer.decode(plain), " <|endoftext|>");
}

TEST(Tokenizer, RejectsTextThatIsNotUtf8AndSaysWhere) {
  const Tokenizer tokenizer = fixture("llama_metaspace");
  for (const std::string tail :
       {"\xFF", "\xC0\x80", "\xED\xA0\x80", "\xE2\x82", "\xF5\x80\x80\x80"}) {
    try {
      (void)tokenizer.encode("ab\xC3\xA9" + tail);
      FAIL() << "accepted";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("byte 4"), std::string::npos) << error.what();
    }
  }
}

TEST(Tokenizer, RejectsIdsThatNoTokenHas) {
  const Tokenizer tokenizer = fixture("llama_metaspace");
  const auto size = static_cast<TokenId>(tokenizer.vocab_size());
  EXPECT_THROW((void)tokenizer.decode(std::vector<TokenId>{size}), InvalidArgument);
  EXPECT_THROW((void)tokenizer.decode(std::vector<TokenId>{-1}), InvalidArgument);
  EXPECT_THROW((void)tokenizer.token(size), InvalidArgument);
  EXPECT_FALSE(tokenizer.is_special(size));
  EXPECT_EQ(tokenizer.id_of("no such token"), std::nullopt);
}

TEST(Tokenizer, NamesEveryTokenItKnows) {
  const Tokenizer tokenizer = fixture("added_tokens");
  for (TokenId id = 0; id < static_cast<TokenId>(tokenizer.vocab_size()); ++id) {
    EXPECT_EQ(tokenizer.id_of(tokenizer.token(id)), id);
  }
}

TEST(Tokenizer, ReplacesBytesThatAreNotUtf8ByTheReplacementCharacter) {
  const Tokenizer tokenizer = fixture("llama_metaspace");
  const TokenId lead = tokenizer.id_of("<0xE5>").value();
  const TokenId second = tokenizer.id_of("<0x8F>").value();
  const TokenId third = tokenizer.id_of("<0xAB>").value();
  EXPECT_EQ(tokenizer.decode(std::vector{lead, second, third}), "\u53eb");
  EXPECT_EQ(tokenizer.decode(std::vector{lead, second}), "\ufffd\ufffd");
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  const Tokenizer tokenizer = fixture("byte_level");
  const std::vector<TokenId> ids = {tokenizer.id_of("\u00e2").value(),   // E2
                                    tokenizer.id_of("\u0124").value(),   // 82
                                    tokenizer.id_of("\u00ac").value()};  // AC
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(ids[0]), "");
  EXPECT_EQ(decoder.push(ids[1]), "");
  EXPECT_EQ(decoder.push(ids[2]), "\u20ac");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(decoder.push(ids[0]), "") << "finish makes it ready for a new sequence";
  EXPECT_THROW((void)decoder.push(-1), InvalidArgument);
  EXPECT_EQ(decoder.finish(), "\ufffd");
}

TEST(Tokenizer, SurvivesAWordOfAMillionCharacters) {
  for (const char* const name : {"llama_normalizer", "byte_level"}) {
    const Tokenizer tokenizer = fixture(name);
    const std::string word(1'000'000, 'e');
    const std::string decoded = tokenizer.decode(tokenizer.encode(word), true);
    EXPECT_EQ(decoded.substr(decoded.find('e')), word);
  }
}

TEST(Tokenizer, GivesEveryThreadTheSameIds) {
  const Tokenizer tokenizer = fixture("byte_level");
  const std::string text = "The quick brown fox jumps over the lazy dog. caf\u00e9 12345";
  const std::vector<TokenId> expected = tokenizer.encode(text);
  std::vector<std::vector<TokenId>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&tokenizer, &text, &result] {
      for (int i = 0; i < 50; ++i) result = tokenizer.encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace pikv
