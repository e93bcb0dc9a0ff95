// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "distillation/makers.hpp"
#include "kernels/common/error.hpp"

namespace pikv::distillation {
namespace {

class NextToken final : public Loss {
 public:
  void evaluate(View<const float, 2> logits, std::span<const TokenId> targets,
                std::span<float> losses) const override {
    const std::int64_t vocab = logits.extent(1);
    require(targets.size() == static_cast<std::size_t>(logits.extent(0)) &&
                losses.size() == targets.size(),
            "next_token", "logits have ", logits.extent(0), " rows for ", targets.size(),
            " targets");
    for (std::size_t t = 0; t < targets.size(); ++t) {
      require(targets[t] >= 0 && targets[t] < vocab, "next_token", "target ", targets[t],
              " is outside the vocabulary of ", vocab);
      const float* row = logits.row(static_cast<std::int64_t>(t));
      const float largest = *std::max_element(row, row + vocab);
      double total = 0.0;
      for (std::int64_t i = 0; i < vocab; ++i) {
        total += std::exp(static_cast<double>(row[i] - largest));
      }
      losses[t] = static_cast<float>(std::log(total)) + largest - row[targets[t]];
    }
  }
};

}  // namespace

std::unique_ptr<const Loss> make_next_token(PolicyOptions options) {
  options.finish();
  return std::make_unique<NextToken>();
}

}  // namespace pikv::distillation
