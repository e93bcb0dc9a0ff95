// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/bad_file.hpp"
#include "tests/support/safetensors_image.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

using testing_support::expect_bad_file;
using testing_support::safetensors_image;
using testing_support::TempFolder;
using testing_support::TensorImage;

constexpr const char* kIndex = "model.safetensors.index.json";

TensorImage vector_of(float value) {
  return {"F32", {1}, std::string(reinterpret_cast<const char*>(&value), sizeof value)};
}

/// Two shards: "a" = 1 in one, "b" = 2 and "c" = 3 in the other.
class ShardedCheckpoint : public testing::Test {
 protected:
  ShardedCheckpoint() {
    folder_.write("one.safetensors", safetensors_image({{"a", vector_of(1.0f)}}));
    folder_.write("two.safetensors",
                  safetensors_image({{"b", vector_of(2.0f)}, {"c", vector_of(3.0f)}}));
  }

  void expect_bad_index(const std::string& text, const char* reason,
                        const char* file = kIndex) const {
    SCOPED_TRACE(text.substr(0, 100));
    folder_.write(kIndex, text);
    expect_bad_file([&] { Checkpoint{folder_.path()}; }, (folder_.path() / file).string(), reason);
  }

  TempFolder folder_;
};

TEST_F(ShardedCheckpoint, FindsEveryTensorInItsShard) {
  folder_.write(kIndex, R"({"metadata": {"total_size": 12}, "weight_map":
                {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}})");
  const Checkpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.num_tensors(), 3u);
  EXPECT_EQ(checkpoint.bytes(), 12u);
  EXPECT_EQ(checkpoint.vector("a", 1), std::vector<float>{1.0f});
  EXPECT_EQ(checkpoint.vector("b", 1), std::vector<float>{2.0f});
  EXPECT_EQ(checkpoint.vector("c", 1), std::vector<float>{3.0f});
}

TEST_F(ShardedCheckpoint, TheIndexDecidesWhatIsThere) {
  folder_.write(kIndex, R"({"weight_map": {"b": "two.safetensors"}})");
  const Checkpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.num_tensors(), 1u);
  EXPECT_FALSE(checkpoint.has("a"));
  EXPECT_FALSE(checkpoint.has("c"));
  expect_bad_file([&] { (void)checkpoint.tensor("c"); }, folder_.path().string(),
                  "tensor 'c' is missing");
}

TEST_F(ShardedCheckpoint, AnIndexThatIsNoIndexIsRefused) {
  expect_bad_index("", "not a JSON object");
  expect_bad_index("[]", "not a JSON object");
  expect_bad_index("{}", "key 'weight_map' is missing");
  expect_bad_index(R"({"weight_map": null})", "key 'weight_map' is missing");
  expect_bad_index(R"({"weight_map": []})", "not an object");
  expect_bad_index(R"({"weight_map": {"a": 1}})", "key 'a' is not a string");
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  expect_bad_index(R"({"weight_map": {"a": )" + deep + "}}", "key 'a' is not a string");
}

TEST_F(ShardedCheckpoint, AShardMustLieBesideTheIndex) {
  for (const char* file : {"/etc/passwd", "../one.safetensors", "./one.safetensors", "sub/x"}) {
    expect_bad_index(std::string(R"({"weight_map": {"a": ")") + file + "\"}}",
                     "is not a plain file name");
  }
  expect_bad_index(R"({"weight_map": {"a": ".."}})", "not a regular file", "..");
  expect_bad_index(R"({"weight_map": {"a": ""}})", "not a regular file", "");
}

TEST_F(ShardedCheckpoint, AShardThatIsMissingIsNamed) {
  expect_bad_index(R"({"weight_map": {"a": "three.safetensors"}})", "No such file",
                   "three.safetensors");
}

TEST_F(ShardedCheckpoint, ATensorThatIsNotInItsShardIsNamed) {
  expect_bad_index(R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}})",
                   "no tensor 'b'", "one.safetensors");
}

TEST_F(ShardedCheckpoint, AShardThatIsCutOffIsNamed) {
  const auto whole = testing_support::read_file(folder_.path() / "two.safetensors");
  folder_.write("two.safetensors", whole.substr(0, whole.size() - 1));
  expect_bad_index(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})",
                   "truncated", "two.safetensors");
}

TEST_F(ShardedCheckpoint, AnIndexThatIsADirectoryIsRefused) {
  std::filesystem::create_directory(folder_.path() / kIndex);
  expect_bad_file([&] { Checkpoint{folder_.path()}; }, kIndex, "not a regular file");
}

TEST(Checkpoint, WhatIsNoDirectoryIsRefused) {
  const TempFolder folder;
  const auto missing = folder.path() / "missing";
  expect_bad_file([&] { Checkpoint{missing}; }, missing.string(), "no such model directory");
  const auto file = folder.write("file", "x");
  expect_bad_file([&] { Checkpoint{file}; }, file.string(), "no such model directory");
  const auto too_long = folder.path() / std::string(5000, 'x');
  expect_bad_file([&] { Checkpoint{too_long}; }, too_long.string(), "no such model directory");
  expect_bad_file([&] { Checkpoint{folder.path()}; },
                  (folder.path() / "model.safetensors").string(), "No such file");
}

TEST(Checkpoint, ATensorMustHaveTheShapeAndTypeAskedFor) {
  const TempFolder folder;
  folder.write("model.safetensors",
               safetensors_image({{"matrix", {"BF16", {2, 3}, std::string(12, 'x')}},
                                  {"integers", {"I32", {2, 3}, std::string(24, 'x')}},
                                  {"counts", {"I64", {2}, std::string(16, 'x')}},
                                  {"vector", {"F16", {6}, std::string(12, 'x')}}}));
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.matrix("matrix", 2, 3).dtype, DType::kBf16);
  EXPECT_EQ(checkpoint.vector("vector", 6).size(), 6u);
  const auto refused = [&](auto&& read, const char* reason) {
    expect_bad_file(read, folder.path().string(), reason);
  };
  refused([&] { (void)checkpoint.matrix("matrix", 3, 2); }, "is BF16 [2, 3], expected [3, 2]");
  refused([&] { (void)checkpoint.matrix("vector", 2, 3); }, "is F16 [6], expected [2, 3]");
  refused([&] { (void)checkpoint.matrix("integers", 2, 3); },
          "expected [2, 3] of F32, BF16 or F16");
  refused([&] { (void)checkpoint.matrix("nothing", 2, 3); }, "tensor 'nothing' is missing");
  refused([&] { (void)checkpoint.vector("vector", 5); }, "is F16 [6], expected [5]");
  refused([&] { (void)checkpoint.vector("matrix", 6); }, "is BF16 [2, 3], expected [6]");
  refused([&] { (void)checkpoint.vector("counts", 2); }, "is I64 [2], expected [2] of F32");
}

TEST(Checkpoint, MayMoveWithoutLosingItsTensors) {
  const TempFolder folder;
  folder.write("model.safetensors",
               safetensors_image({{"a", vector_of(1.0f)}, {"b", vector_of(2.0f)}}));
  Checkpoint first(folder.path());
  const Checkpoint second = std::move(first);
  EXPECT_EQ(second.vector("b", 1), std::vector<float>{2.0f});
}

}  // namespace
}  // namespace pikv
