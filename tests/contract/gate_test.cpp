// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every gate promises (core/policy/gate.hpp), over the whole table.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "routing/tables.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

class GateContract : public testing::TestWithParam<std::string> {
 protected:
  struct Choice {
    std::vector<std::int32_t> experts;  // [T, K]
    std::vector<float> weights;         // [T, K]
  };

  Choice choose(const std::vector<float>& logits, std::int64_t num_experts, std::int64_t k,
                bool renormalize) {
    const std::int64_t rows = static_cast<std::int64_t>(logits.size()) / num_experts;
    Choice choice{.experts = std::vector<std::int32_t>(static_cast<std::size_t>(rows * k), -9),
                  .weights = poisoned(rows * k)};
    gate_->choose(exec_,
                  {.logits = {logits.data(), {rows, num_experts}}, .renormalize = renormalize},
                  {choice.experts.data(), {rows, k}}, {choice.weights.data(), {rows, k}});
    return choice;
  }

  template <class Check>
  void for_each_shape(const Check& check) {
    for (const std::int64_t num_experts : {1, 2, 7, 8, 64}) {
      for (const std::int64_t k : {1, 2, 7}) {
        if (k > num_experts) continue;
        for (const std::int64_t rows : {0, 1, 67}) {
          SCOPED_TRACE(testing::Message()
                       << "E = " << num_experts << ", K = " << k << ", T = " << rows);
          check(rows, num_experts, k);
        }
      }
    }
  }

  Random random_{171};
  Exec exec_ = Exec::cpu(2);
  std::unique_ptr<const Gate> gate_ = make_policy("gate", routing::gates(), GetParam());
};

TEST_P(GateContract, ChoosesDistinctExpertsWithFiniteWeights) {
  for_each_shape([&](std::int64_t rows, std::int64_t num_experts, std::int64_t k) {
    const Choice choice = choose(random_.normals(rows * num_experts, 3.0f), num_experts, k, false);
    for (std::size_t t = 0; t < static_cast<std::size_t>(rows); ++t) {
      std::set<std::int32_t> distinct;
      for (std::size_t j = 0; j < static_cast<std::size_t>(k); ++j) {
        const std::int32_t expert = choice.experts[t * static_cast<std::size_t>(k) + j];
        const float weight = choice.weights[t * static_cast<std::size_t>(k) + j];
        ASSERT_GE(expert, 0);
        ASSERT_LT(expert, num_experts);
        ASSERT_TRUE(distinct.insert(expert).second);
        ASSERT_TRUE(weight >= 0.0f && weight <= 1.0f + 1e-6f) << weight;
      }
    }
  });
}

TEST_P(GateContract, RenormalizedWeightsSumToOne) {
  for_each_shape([&](std::int64_t rows, std::int64_t num_experts, std::int64_t k) {
    const Choice choice = choose(random_.normals(rows * num_experts, 3.0f), num_experts, k, true);
    for (std::size_t t = 0; t < static_cast<std::size_t>(rows); ++t) {
      float sum = 0.0f;
      for (std::size_t j = 0; j < static_cast<std::size_t>(k); ++j) {
        sum += choice.weights[t * static_cast<std::size_t>(k) + j];
      }
      ASSERT_NEAR(sum, 1.0f, 1e-6f);
    }
  });
}

TEST_P(GateContract, ADecisionDependsOnItsOwnTokenOnly) {
  for_each_shape([&](std::int64_t rows, std::int64_t num_experts, std::int64_t k) {
    if (rows == 0) return;
    auto logits = random_.normals(rows * num_experts);
    const Choice before = choose(logits, num_experts, k, true);
    const std::int64_t kept = random_.integer(0, rows - 1);
    for (std::int64_t i = 0; i < rows * num_experts; ++i) {
      if (i / num_experts != kept) logits[static_cast<std::size_t>(i)] = random_.normal();
    }
    const Choice after = choose(logits, num_experts, k, true);
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(kept * num_experts);
    const Choice alone =
        choose({row, row + static_cast<std::ptrdiff_t>(num_experts)}, num_experts, k, true);
    for (std::size_t j = 0; j < static_cast<std::size_t>(k); ++j) {
      const std::size_t at = static_cast<std::size_t>(kept * k) + j;
      ASSERT_EQ(after.experts[at], before.experts[at]);
      ASSERT_EQ(after.weights[at], before.weights[at]);
      ASSERT_EQ(alone.experts[j], before.experts[at]);
      ASSERT_EQ(alone.weights[j], before.weights[at]);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Gates, GateContract, testing::ValuesIn(names_of(routing::gates())),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv
