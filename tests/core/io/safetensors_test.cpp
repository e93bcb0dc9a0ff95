// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstdint>
#include <filesystem>
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

constexpr const char* kFile = "case.safetensors";

/// The bytes of float32 values.
std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string with_claimed_header_size(std::uint64_t claimed, std::string_view rest) {
  std::string image(sizeof claimed, '\0');
  std::memcpy(image.data(), &claimed, sizeof claimed);
  return image += rest;
}

struct BadCase {
  const char* name;
  std::string image;
  const char* reason;
};

void PrintTo(const BadCase& bad, std::ostream* out) { *out << bad.name; }

class BadSafetensors : public testing::TestWithParam<BadCase> {};

TEST_P(BadSafetensors, IsRefusedByName) {
  const TempFolder folder;
  const auto path = folder.write(kFile, GetParam().image);
  expect_bad_file([&] { SafetensorsFile{path}; }, path.string(), GetParam().reason);
}

/// A file of one tensor "a" with these fields and `num_bytes` of buffer.
std::string one(const std::string& fields, std::size_t num_bytes) {
  return safetensors_image(R"({"a":{)" + fields + "}}", std::string(num_bytes, 'x'));
}

std::string shaped(const std::string& shape) {
  return one(R"("dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,4])", 4);
}

std::string placed(const std::string& offsets) {
  return one(R"("dtype":"U8","shape":[4],"data_offsets":)" + offsets, 4);
}

std::string two(const std::string& first, const std::string& second, std::size_t num_bytes) {
  return safetensors_image(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
                           std::string(num_bytes, 'x'));
}

const std::string kGood = one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 8);
const std::string kDeep = std::string(100'000, '[');
const std::string kDeepClosed = kDeep + std::string(100'000, ']');

INSTANTIATE_TEST_SUITE_P(
    Header, BadSafetensors,
    testing::Values(
        BadCase{"Empty", "", "0 bytes are too few"},
        BadCase{"SevenBytes", "1234567", "7 bytes are too few"},
        BadCase{"NoHeader", with_claimed_header_size(0, ""), "not a JSON object"},
        BadCase{"LengthBeyondTheFile", with_claimed_header_size(3, "{}"), "the header claims 3"},
        BadCase{"LengthShort", with_claimed_header_size(1, "{}"), "not a JSON object"},
        BadCase{"LengthLongIntoTheBuffer",
                with_claimed_header_size(kGood.size() - 8, kGood.substr(8)), "not a JSON object"},
        BadCase{"LengthHuge", with_claimed_header_size(UINT64_MAX, "{}"), "the header claims 1844"},
        BadCase{"LengthWrapsAround", with_claimed_header_size(UINT64_MAX - 7, "{}"),
                "the header claims 1844"},
        BadCase{"LengthOverTheFormatsLimit", with_claimed_header_size(100'000'001, "{}"),
                "the header claims 100000001"},
        BadCase{"NotJson", safetensors_image("not JSON"), "not a JSON object"},
        BadCase{"Array", safetensors_image("[]"), "not a JSON object"},
        BadCase{"Number", safetensors_image("7"), "not a JSON object"},
        BadCase{"Null", safetensors_image("null"), "not a JSON object"},
        BadCase{"NumberTooLarge", safetensors_image(R"({"a":1e999})"), "not a JSON object"},
        BadCase{"NotUtf8", safetensors_image("{\"\xff\":{}}"), "not a JSON object"},
        BadCase{"DeepOpen", safetensors_image(kDeep), "not a JSON object"},
        BadCase{"DeepArray", safetensors_image(kDeepClosed), "not a JSON object"},
        BadCase{"DeepEntry", safetensors_image("{\"a\":" + kDeepClosed + "}"), "lacks a dtype"},
        BadCase{"DeepShape", one(R"("dtype":"F32","data_offsets":[0,4],"shape":)" + kDeepClosed, 4),
                "not a count"},
        BadCase{"TwoEntriesOfOneName",
                safetensors_image(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                  R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                  "x"),
                "two entries 'a'"}),
    testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(
    Entry, BadSafetensors,
    testing::Values(
        BadCase{"NotAnObject", safetensors_image(R"({"a":[]})"), "tensor 'a' lacks"},
        BadCase{"NoDtype", one(R"("shape":[],"data_offsets":[0,4])", 4), "tensor 'a' lacks"},
        BadCase{"DtypeOfAnotherType", one(R"("dtype":4,"shape":[],"data_offsets":[0,4])", 4),
                "tensor 'a' lacks"},
        BadCase{"NameOfSeveralLines", safetensors_image(R"({"a\nb\u001b[2J":[]})"),
                "tensor 'a?b?[2J' lacks"},
        BadCase{"UnknownDtype", one(R"("dtype":"F31","shape":[],"data_offsets":[0,4])", 4),
                "unknown dtype 'F31'"},
        BadCase{"NoShape", one(R"("dtype":"F32","data_offsets":[0,4])", 4), "tensor 'a' lacks"},
        BadCase{"NoOffsets", one(R"("dtype":"F32","shape":[1])", 4), "tensor 'a' lacks"},
        BadCase{"NegativeExtent", shaped("[-1]"), "not a count"},
        BadCase{"FractionalExtent", shaped("[1.5]"), "not a count"},
        BadCase{"WholeFractionalExtent", shaped("[1.0]"), "not a count"},
        BadCase{"TextExtent", shaped("[\"1\"]"), "not a count"},
        BadCase{"ExtentOver63Bits", shaped("[9223372036854775808]"), "overflows"},
        BadCase{"ExtentOver64Bits", shaped("[18446744073709551616]"), "not a count"},
        BadCase{"SizeOverflows", shaped("[4294967296,4294967296]"), "overflows"},
        BadCase{"SizeWrapsToFour", shaped("[4611686018427387905]"), "overflows"},
        BadCase{"ShapeLargerThanItsBytes", shaped("[2]"), "needs 8 bytes"},
        BadCase{"ShapeSmallerThanItsBytes", shaped("[0]"), "needs 0 bytes"},
        BadCase{"OneOffset", placed("[4]"), "tensor 'a' lacks"},
        BadCase{"ThreeOffsets", placed("[0,2,4]"), "tensor 'a' lacks"},
        BadCase{"ReversedOffsets", placed("[4,0]"), "claims bytes 4 to 0"},
        BadCase{"NegativeOffset", placed("[-4,0]"), "not counts"},
        BadCase{"FractionalOffset", placed("[0,4.0]"), "not counts"},
        BadCase{"OffsetBeyondTheBuffer", placed("[1,5]"), "claims bytes 1 to 5"},
        BadCase{"OffsetHuge", placed("[18446744073709551612,18446744073709551615]"),
                "claims bytes 18446744073709551612"},
        BadCase{"Overlap", two("[0,4]", "[3,7]", 7), "'a' and 'b' overlap"},
        BadCase{"SamePlace", two("[0,4]", "[0,4]", 4), "overlap"},
        BadCase{"GapBetween", two("[0,4]", "[5,9]", 9), "1 bytes before tensor 'b'"},
        BadCase{"GapInFront", two("[1,5]", "[5,9]", 9), "1 bytes before tensor 'a'"},
        BadCase{"TrailingBytes", two("[0,4]", "[4,8]", 11), "3 bytes after the last tensor"},
        BadCase{"BufferWithoutTensors", safetensors_image("{}", "x"),
                "1 bytes after the last tensor"}),
    testing::PrintToStringParamName());

TEST(SafetensorsFile, IsRefusedWhereverItIsCutOff) {
  const TempFolder folder;
  for (std::size_t size = 0; size < kGood.size(); ++size) {
    SCOPED_TRACE(testing::Message() << size << " bytes of " << kGood.size());
    const auto path = folder.write(kFile, kGood.substr(0, size));
    expect_bad_file([&] { SafetensorsFile{path}; }, path.string(), "");
  }
  EXPECT_NO_THROW(SafetensorsFile{folder.write(kFile, kGood)});
}

TEST(SafetensorsFile, WhatIsNotAFileIsRefused) {
  const TempFolder folder;
  const auto missing = folder.path() / kFile;
  expect_bad_file([&] { SafetensorsFile{missing}; }, missing.string(), "No such file");
  expect_bad_file([&] { SafetensorsFile{folder.path()}; }, folder.path().string(),
                  "not a regular file");
  ASSERT_EQ(mkfifo(missing.c_str(), 0600), 0);
  expect_bad_file([&] { SafetensorsFile{missing}; }, missing.string(), "not a regular file");
  const auto long_name = folder.path() / std::string(5000, 'x');
  expect_bad_file([&] { SafetensorsFile{long_name}; }, folder.path().string(), "too long");
}

TEST(SafetensorsFile, AFileWithoutPermissionIsRefused) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const TempFolder folder;
  const auto path = folder.write(kFile, kGood);
  std::filesystem::permissions(path, std::filesystem::perms::none);
  expect_bad_file([&] { SafetensorsFile{path}; }, path.string(), "Permission denied");
}

TEST(SafetensorsFile, TensorsAtOddAddressesReadAsAnyOther) {
  const TempFolder folder;
  const std::vector<float> values = {1.5f, -2.25f, 3e-30f};
  // Spaces after the header move the buffer through every alignment.
  for (std::size_t padding = 0; padding < 8; ++padding) {
    std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                         R"("b":{"dtype":"F32","shape":[1,3],"data_offsets":[1,13]}})";
    header.append(padding, ' ');
    std::string buffer(1, 'x');
    buffer += floats(values);
    const SafetensorsFile file(folder.write(kFile, safetensors_image(header, buffer)));
    EXPECT_EQ(to_floats(file.tensor("b")), values);
    const WeightView view = to_weight(file.tensor("b"));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data) % alignof(float), 0u);
    EXPECT_EQ(view.rows, 1);
    EXPECT_EQ(view.cols, 3);
    EXPECT_EQ(static_cast<const float*>(static_cast<const void*>(view.data))[2], values[2]);
  }
}

TEST(SafetensorsFile, TensorsWithoutElementsAreThere) {
  const TempFolder folder;
  const SafetensorsFile file(folder.write(
      kFile, safetensors_image(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                               R"("b":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},)"
                               R"("c":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}} )",
                               floats({1.0f}))));
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensor("b").size(), 0);
  EXPECT_TRUE(to_floats(file.tensor("b")).empty());
  EXPECT_TRUE(to_integers(file.tensor("c")).empty());
  EXPECT_EQ(to_weight(file.tensor("b")).cols, 7);
}

TEST(SafetensorsFile, AScalarHasNoAxes) {
  const TempFolder folder;
  const SafetensorsFile file(folder.write(
      kFile, safetensors_image(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                               floats({-7.5f}))));
  EXPECT_EQ(file.tensor("a").size(), 1);
  EXPECT_EQ(to_floats(file.tensor("a")), std::vector<float>{-7.5f});
  EXPECT_EQ(file.tensor("a").describe(), "F32 []");
}

TEST(SafetensorsFile, MetadataIsNoTensor) {
  const TempFolder folder;
  const SafetensorsFile file(
      folder.write(kFile, safetensors_image(R"({"__metadata__":{"format":"pt","a":"b"}})")));
  EXPECT_TRUE(file.tensors().empty());
  expect_bad_file([&] { (void)file.tensor("__metadata__"); }, kFile, "no tensor '__metadata__'");
}

TEST(SafetensorsFile, HalfTypesWidenExactly) {
  const TempFolder folder;
  // 1.0, -2.5 and the smallest subnormal of each type.
  const std::string bf16("\x80\x3f\x20\xc0\x01\x00", 6);
  const std::string f16("\x00\x3c\x00\xc1\x01\x00", 6);
  const SafetensorsFile file(folder.write(
      kFile, safetensors_image({{"b", {"BF16", {3}, bf16}}, {"f", {"F16", {3}, f16}}})));
  EXPECT_EQ(to_floats(file.tensor("b")),
            (std::vector<float>{1.0f, -2.5f, std::bit_cast<float>(0x00010000u)}));
  EXPECT_EQ(to_floats(file.tensor("f")), (std::vector<float>{1.0f, -2.5f, 0x1p-24f}));
}

TEST(SafetensorsFile, ConversionsRefuseOtherTypes) {
  const TempFolder folder;
  const SafetensorsFile file(folder.write(
      kFile, safetensors_image({{"i", {"I32", {1, 1}, "abcd"}}, {"v", {"F32", {1}, "abcd"}}})));
  expect_bad_file([&] { (void)to_floats(file.tensor("i")); }, "'i'", "is I32 [1, 1], expected F32");
  expect_bad_file([&] { (void)to_weight(file.tensor("i")); }, "'i'", "expected a matrix");
  expect_bad_file([&] { (void)to_weight(file.tensor("v")); }, "'v'", "expected a matrix");
  expect_bad_file([&] { (void)to_integers(file.tensor("i")); }, "'i'", "expected I64");
}

}  // namespace
}  // namespace pikv
