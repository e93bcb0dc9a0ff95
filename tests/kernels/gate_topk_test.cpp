// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gate_topk.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

class GateTopk : public testing::TestWithParam<int> {
 protected:
  struct Result {
    std::vector<std::int32_t> experts;
    std::vector<float> weights;
  };

  Result run(const std::vector<float>& logits, std::int64_t num_experts, std::int64_t k,
             bool renormalize) {
    const std::int64_t rows = static_cast<std::int64_t>(logits.size()) / num_experts;
    Result result{.experts = std::vector<std::int32_t>(static_cast<std::size_t>(rows * k), -7),
                  .weights = poisoned(rows * k)};
    kernels::gate_topk(exec_, {.logits = {logits.data(), {rows, num_experts}},
                               .renormalize = renormalize,
                               .experts = {result.experts.data(), {rows, k}},
                               .weights = {result.weights.data(), {rows, k}}});
    return result;
  }

  void check(const std::vector<float>& logits, std::int64_t num_experts, std::int64_t k,
             bool renormalize) {
    SCOPED_TRACE(testing::Message()
                 << "E = " << num_experts << ", K = " << k << ", renormalize " << renormalize);
    const Result result = run(logits, num_experts, k, renormalize);
    const auto width = static_cast<std::size_t>(num_experts);
    const auto chosen = static_cast<std::size_t>(k);
    for (std::size_t t = 0; t * width < logits.size(); ++t) {
      const reference::GateRow expected =
          reference::gate_topk(std::span(logits).subspan(t * width, width), k, renormalize);
      for (std::size_t j = 0; j < chosen; ++j) {
        ASSERT_EQ(result.experts[t * chosen + j], expected.experts[j]) << "row " << t;
        // A sum of E exponentials in float32, of logits less the largest, rounded once.
        const double roundings =
            static_cast<double>(num_experts) + 8 - std::log(expected.weights[j]);
        ASSERT_NEAR(static_cast<double>(result.weights[t * chosen + j]), expected.weights[j],
                    roundings * reference::kEpsilon * expected.weights[j])
            << "row " << t;
      }
    }
  }

  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(GateTopk, EqualsTheReference) {
  Random random(51);
  for (const std::int64_t num_experts : {1, 2, 7, 8, 64, 131}) {
    for (const std::int64_t k : {1, 2, 7, 8}) {
      if (k > num_experts) continue;
      for (const std::int64_t rows : {0, 1, 211}) {
        for (const bool renormalize : {false, true}) {
          check(random.normals(rows * num_experts, 5.0f), num_experts, k, renormalize);
        }
      }
    }
  }
}

TEST_P(GateTopk, AmongEqualsTheLowerIdComesFirst) {
  Random random(52);
  for (const std::int64_t num_experts : {2, 8, 64}) {
    // Few distinct values, so that nearly every choice is among equals.
    std::vector<float> logits;
    for (std::int64_t i = 0; i < 101 * num_experts; ++i) {
      logits.push_back(0.5f * static_cast<float>(random.integer(-1, 1)));
    }
    for (const std::int64_t k : {std::int64_t{1}, std::int64_t{2}, num_experts}) {
      check(logits, num_experts, k, false);
      check(logits, num_experts, k, true);
    }
  }
}

TEST_P(GateTopk, LogitsThatDifferButRoundToOneProbabilityKeepTheirOrder) {
  // exp(-200) is 0 in float32: the weights tie, the logits do not.
  const std::vector<float> logits = {0.0f, -201.0f, -200.0f};
  EXPECT_EQ(run(logits, 3, 3, false).experts, (std::vector<std::int32_t>{0, 2, 1}));
}

TEST_P(GateTopk, WorkedByHand) {
  // softmax(ln 1, ln 2, ln 5) = 1/8, 2/8, 5/8.
  const std::vector<float> logits = {0.0f, 0.69314718f, 1.60943791f};
  const Result plain = run(logits, 3, 2, false);
  EXPECT_EQ(plain.experts, (std::vector<std::int32_t>{2, 1}));
  EXPECT_NEAR(plain.weights[0], 5.0 / 8, 1e-6);
  EXPECT_NEAR(plain.weights[1], 2.0 / 8, 1e-6);
  const Result renormalized = run(logits, 3, 2, true);
  EXPECT_NEAR(renormalized.weights[0], 5.0 / 7, 1e-6);
  EXPECT_NEAR(renormalized.weights[1], 2.0 / 7, 1e-6);
}

TEST_P(GateTopk, MoreChoicesThanExpertsAreRefusedWithBothNumbers) {
  try {
    (void)run({1.0f, 2.0f}, 2, 3, false);
    FAIL() << "K = 3 of E = 2 was accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(), "gate_topk: k = 3 is outside [1, num_experts = 2]");
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, GateTopk, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
