// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/sizes.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

TEST(KvMemoryText, IsASizeOrAShareOfFreeMemory) {
  EXPECT_EQ(parse_kv_memory("0").bytes, 0u);
  EXPECT_EQ(parse_kv_memory("4097").bytes, 4097u);
  EXPECT_EQ(parse_kv_memory("64k").bytes, 64u << 10);
  EXPECT_EQ(parse_kv_memory("3MB").bytes, 3u << 20);
  EXPECT_EQ(parse_kv_memory("2GiB").bytes, 2 * kGiB);
  EXPECT_EQ(parse_kv_memory("1t").bytes, 1024 * kGiB);
  EXPECT_FALSE(parse_kv_memory("2GiB").fraction);
  EXPECT_DOUBLE_EQ(parse_kv_memory("80%").fraction.value(), 0.8);
  EXPECT_DOUBLE_EQ(parse_kv_memory("0.5%").fraction.value(), 0.005);
  EXPECT_DOUBLE_EQ(parse_kv_memory("100%").fraction.value(), 1.0);
  EXPECT_FALSE(parse_kv_memory("80%").bytes);
}

TEST(KvMemoryText, OfAnotherFormIsRefusedByItsOwnName) {
  for (const char* text :
       {"", "much", "-1", "-5%", "0%", "100.1%", "%", "nan%", "inf%", "8 %", "80%%", "0.8", "1.5G",
        "1GG", "99999999999999999999", "18014398509481984k"}) {
    try {
      static_cast<void>(parse_kv_memory(text));
      ADD_FAILURE() << "'" << text << "' was taken";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(std::string("'") + text + "'"), std::string::npos)
          << error.what();
    }
  }
}

TEST(KvMemoryText, CanBeGivenAgain) {
  EXPECT_EQ(describe(KvMemory{}), "");
  for (const char* text : {"1024", "80%", "7%", "33.3%"}) {
    EXPECT_EQ(describe(parse_kv_memory(text)), text);
  }
  EXPECT_EQ(describe(parse_kv_memory("2k")), "2048");
}

TEST(KvMemoryBytes, OnTheCpuAreThoseGivenOrWithoutLimit) {
  EXPECT_EQ(kv_memory_bytes({}, std::nullopt), std::nullopt);
  EXPECT_EQ(kv_memory_bytes({.bytes = 5}, std::nullopt), 5u);
  EXPECT_THROW(static_cast<void>(kv_memory_bytes({.fraction = 0.5}, std::nullopt)),
               InvalidArgument);
}

TEST(KvMemoryBytes, OnAGpuAreWhatIsFreeLessAReserve) {
  const GpuMemory large{.free_bytes = 60 * kGiB, .total_bytes = 80 * kGiB};
  EXPECT_EQ(kv_memory_bytes({}, large), 57 * kGiB) << "a twentieth";
  EXPECT_EQ(kv_memory_bytes({}, GpuMemory{.free_bytes = 4 * kGiB, .total_bytes = 8 * kGiB}),
            3 * kGiB)
      << "1 GiB at least";
  EXPECT_EQ(kv_memory_bytes({.bytes = 99}, large), 99u);
  EXPECT_EQ(kv_memory_bytes({.fraction = 0.25}, large), 15 * kGiB);
}

TEST(KvMemoryBytes, WhereNothingIsLeftTheNumbersAreNamed) {
  for (const std::uint64_t free : {std::uint64_t{0}, kGiB / 2, kGiB}) {
    try {
      static_cast<void>(
          kv_memory_bytes({}, GpuMemory{.free_bytes = free, .total_bytes = 8 * kGiB}));
      ADD_FAILURE() << free << " bytes were enough";
    } catch (const OutOfMemory& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find(concat(free, " of 8589934592 bytes are free")), std::string::npos)
          << text;
    }
  }
}

}  // namespace
}  // namespace pikv::launch
