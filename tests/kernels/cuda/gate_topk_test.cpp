// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Logits are multiples of 1/16: equal ones are frequent, and different ones stay different as
// probabilities on both sides, so the choice must agree exactly. Weights differ by the rounding of
// exp and of the sum.
#include "kernels/gate_topk.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kWeights{1e-7, 1e-5};

struct Choice {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
};

Choice choose(Exec& exec, const std::vector<float>& logits, std::int64_t rows,
              std::int64_t num_experts, std::int64_t k, bool renormalize) {
  Array<float> logits_array(exec, logits);
  Array<std::int32_t> experts(exec,
                              std::vector<std::int32_t>(static_cast<std::size_t>(rows * k), -1));
  Array<float> weights(exec, poisoned(rows * k));
  kernels::gate_topk(exec, {.logits = logits_array.view(rows, num_experts),
                            .renormalize = renormalize,
                            .experts = experts.view(rows, k),
                            .weights = weights.view(rows, k)});
  return {experts.host(), weights.host()};
}

class GateTopkCuda : public CudaParity {
 protected:
  [[nodiscard]] std::vector<float> coarse_logits(std::int64_t count) {
    auto logits = random_.normals(count, 2.0f);
    for (float& logit : logits) logit = std::round(logit * 16.0f) / 16.0f;
    return logits;
  }
};

TEST_F(GateTopkCuda, ChoosesAsTheCpuDoesWithManyTies) {
  for (const std::int64_t rows : {0, 1, 67}) {
    for (const std::int64_t num_experts : {1, 2, 31, 32, 33, 64, 128, 257, 1000, 1024}) {
      for (const std::int64_t wanted :
           {std::int64_t{1}, std::int64_t{2}, std::int64_t{8}, num_experts}) {
        for (const bool renormalize : {false, true}) {
          const std::int64_t k = std::min(wanted, num_experts);
          SCOPED_TRACE(::testing::Message() << "T = " << rows << ", E = " << num_experts
                                            << ", K = " << k << ", renormalize = " << renormalize);
          const auto logits = coarse_logits(rows * num_experts);
          const Choice cuda = choose(gpu(), logits, rows, num_experts, k, renormalize);
          const Choice expected = choose(cpu(), logits, rows, num_experts, k, renormalize);
          EXPECT_EQ(cuda.experts, expected.experts);
          expect_close(cuda.weights, expected.weights, kWeights);
        }
      }
    }
  }
}

TEST_F(GateTopkCuda, PrefersTheLowerIdAmongEqualLogits) {
  const std::vector<float> logits(100, 0.25f);
  const Choice choice = choose(gpu(), logits, 1, 100, 5, true);
  EXPECT_EQ(choice.experts, (std::vector<std::int32_t>{0, 1, 2, 3, 4}));
  for (const float weight : choice.weights) EXPECT_NEAR(weight, 0.2f, 1e-6f);
}

TEST_F(GateTopkCuda, RefusesMoreExpertsThanItHoldsInRegisters) {
  const std::vector<float> logits(1025, 0.0f);
  EXPECT_THROW(static_cast<void>(choose(gpu(), logits, 1, 1025, 1, false)), InvalidArgument);
}

}  // namespace
}  // namespace pikv::test
