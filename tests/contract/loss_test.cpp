// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every loss promises (core/policy/loss.hpp), over the whole table.
#include <gtest/gtest.h>

#include <cmath>

#include "distillation/tables.hpp"
#include "kernels/common/error.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

std::vector<float> evaluate(const Loss& loss, const std::vector<float>& logits, std::int64_t vocab,
                            const std::vector<TokenId>& targets) {
  std::vector<float> losses = poisoned(static_cast<std::int64_t>(targets.size()));
  loss.evaluate({logits.data(), {static_cast<std::int64_t>(logits.size()) / vocab, vocab}}, targets,
                losses);
  return losses;
}

class LossContract : public testing::TestWithParam<std::string> {
 protected:
  Random random_{211};
  std::unique_ptr<const Loss> loss_ = make_policy("loss", distillation::losses(), GetParam());
};

TEST_P(LossContract, EveryRowHasAFiniteLossOfItsOwn) {
  for (const std::int64_t vocab : {1, 2, 7, 257}) {
    for (const std::int64_t rows : {0, 1, 31}) {
      const auto logits = random_.normals(rows * vocab, 10.0f);
      std::vector<TokenId> targets;
      for (std::int64_t t = 0; t < rows; ++t) {
        targets.push_back(static_cast<TokenId>(random_.integer(0, vocab - 1)));
      }
      const auto losses = evaluate(*loss_, logits, vocab, targets);
      for (std::size_t t = 0; t < targets.size(); ++t) {
        ASSERT_TRUE(std::isfinite(losses[t]));
        ASSERT_GE(losses[t], -1e-5f);
        const auto row = logits.begin() + static_cast<std::ptrdiff_t>(t) * vocab;
        EXPECT_EQ(evaluate(*loss_, {row, row + vocab}, vocab, {targets[t]})[0], losses[t]);
      }
    }
  }
}

TEST_P(LossContract, TargetsOutsideTheVocabularyAreRefused) {
  EXPECT_THROW((void)evaluate(*loss_, {1.0f, 2.0f}, 2, {2}), InvalidArgument);
  EXPECT_THROW((void)evaluate(*loss_, {1.0f, 2.0f}, 2, {-1}), InvalidArgument);
  EXPECT_THROW((void)evaluate(*loss_, {1.0f, 2.0f}, 2, {0, 1}), InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Losses, LossContract, testing::ValuesIn(names_of(distillation::losses())),
                         [](const auto& info) { return info.param; });

TEST(NextTokenLoss, WorkedByHand) {
  const auto loss = make_policy("loss", distillation::losses(), "next_token");
  // Probabilities 1/8, 2/8, 5/8, whatever is added to all logits.
  for (const float shift : {0.0f, 1000.0f, -1000.0f}) {
    const std::vector<float> row = {shift, shift + std::log(2.0f), shift + std::log(5.0f)};
    std::vector<float> logits;
    for (int i = 0; i < 3; ++i) logits.insert(logits.end(), row.begin(), row.end());
    const auto losses = evaluate(*loss, logits, 3, {0, 1, 2});
    EXPECT_NEAR(losses[0], std::log(8.0f), 2e-4f);
    EXPECT_NEAR(losses[1], std::log(4.0f), 2e-4f);
    EXPECT_NEAR(losses[2], std::log(1.6f), 2e-4f);
  }
  EXPECT_EQ(evaluate(*loss, {3.0f}, 1, {0})[0], 0.0f) << "one token is certain";
}

}  // namespace
}  // namespace pikv
