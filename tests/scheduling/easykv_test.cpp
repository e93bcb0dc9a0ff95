// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// EasyKV's own results on one layer of made-up numbers: four query heads, two KV heads, 256 tokens
// of 8 channels, no RoPE. Kept positions are given by their sum and the sum of their squares.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "scheduling/tables.hpp"
#include "tests/scheduling/attention_trace.hpp"
#include "tests/support/label.hpp"

namespace pikv {
namespace {

constexpr std::int64_t kTokens = 256;

struct Sums {
  std::int64_t positions;
  std::int64_t squares;
  [[nodiscard]] bool operator==(const Sums&) const = default;
};

void PrintTo(const Sums& sums, std::ostream* out) {
  *out << sums.positions << ", " << sums.squares;
}

Sums sums_of(const std::vector<AttentionTrace::Slot>& slots, Position first) {
  Sums sums{};
  for (const AttentionTrace::Slot& slot : slots) {
    if (slot.position < first) continue;
    sums.positions += slot.position;
    sums.squares += std::int64_t{slot.position} * slot.position;
  }
  return sums;
}

struct Case {
  std::string name;  // a scheduler, and at most one option
  Sums heads[2];
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  return testing_support::label_of(info.param.name);
}

std::unique_ptr<const Scheduler> make(const std::string& name, const std::string& options) {
  const char* const separator = name.find(':') == std::string::npos ? ":" : ",";
  return make_policy("scheduler", scheduling::schedulers(), name + separator + options);
}

class EncodingCases : public testing::TestWithParam<Case> {};

TEST_P(EncodingCases, KeepThePublishedPositions) {
  const auto scheduler = make(GetParam().name, "when=stride,stride=8,sinks=4");
  AttentionTrace trace = golden_numbers(2, kTokens);
  trace.run(*scheduler, {.fraction = 0.5}, 248, 248);
  for (const std::size_t h : {0u, 1u}) {
    EXPECT_EQ(trace.slots(h).size(), 128u);
    EXPECT_EQ(sums_of(trace.slots(h), 0), GetParam().heads[h]) << "head " << h;
  }
}

INSTANTIATE_TEST_SUITE_P(
    EasyKv, EncodingCases,
    testing::Values(Case{"h2o_head", {{9691, 1256281}, {9689, 1255829}}},
                    Case{"h2o_head_std_avg", {{11102, 1662024}, {11312, 1709514}}},
                    Case{"roco", {{11102, 1662024}, {11312, 1709514}}},
                    Case{"h2o_head_std", {{9330, 1129352}, {9328, 1128880}}},
                    Case{"tova_head", {{17519, 3226171}, {18818, 3508240}}},
                    Case{"tova_head:heads=mean", {{18885, 3523685}, {18885, 3523685}}}),
    name_of);

class DecodingCases : public testing::TestWithParam<Case> {};

TEST_P(DecodingCases, KeepThePublishedPositions) {
  const auto scheduler = make(GetParam().name, "when=decode");
  AttentionTrace trace = golden_numbers(2, kTokens);
  trace.run(*scheduler, {.slots = 64}, 32, 231);
  for (const std::size_t h : {0u, 1u}) {
    EXPECT_EQ(trace.slots(h).size(), 32u + 64u) << "the prompt is not touched";
    EXPECT_EQ(sums_of(trace.slots(h), 32), GetParam().heads[h]) << "head " << h;
  }
}

INSTANTIATE_TEST_SUITE_P(
    EasyKv, DecodingCases,
    testing::Values(Case{"h2o_head", {{6637, 1068599}, {6630, 1067512}}},
                    Case{"h2o_head_avg", {{8293, 1448439}, {8248, 1441216}}},
                    Case{"h2o_head_decay", {{6645, 1069847}, {6740, 1086308}}},
                    Case{"h2o_head_std_avg", {{7240, 1161992}, {7280, 1158784}}},
                    Case{"h2o_head_std", {{5416, 706844}, {5415, 706675}}},
                    Case{"h2o_head_decay_avg_std", {{12425, 2463683}, {12354, 2443756}}},
                    Case{"tova_head", {{10018, 1800354}, {10500, 1918448}}}),
    name_of);

// EasyKV's `recency` evicts the oldest generated token: here the prompt counts as sinks.
TEST(EasyKvRecency, KeepsThePromptAndTheNewest) {
  const auto scheduler = make("recency", "sinks=32,when=decode,every=1");
  AttentionTrace trace = golden_numbers(2, kTokens);
  trace.run(*scheduler, {.slots = 32 + 64}, 32, 231);
  for (const std::size_t h : {0u, 1u}) {
    EXPECT_EQ(trace.slots(h).size(), 32u + 64u);
    EXPECT_EQ(sums_of(trace.slots(h), 32), (Sums{12704, 2543584})) << "head " << h;
  }
}

}  // namespace
}  // namespace pikv
