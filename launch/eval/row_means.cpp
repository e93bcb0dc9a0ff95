// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/row_means.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"

namespace pikv::launch {

std::vector<float> log_probabilities(std::span<const float> logits) {
  const auto largest = static_cast<double>(std::ranges::max(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double log_sum = largest + std::log(sum);
  std::vector<float> result;
  result.reserve(logits.size());
  for (const float logit : logits) {
    result.push_back(static_cast<float>(static_cast<double>(logit) - log_sum));
  }
  return result;
}

RowFigure negative_log_likelihood(std::span<const Request> requests) {
  return [requests](std::size_t request_idx, std::size_t token_idx, std::span<const float> logits) {
    const TokenId token = requests[request_idx].forced_tokens[token_idx];
    return -static_cast<double>(log_probabilities(logits)[static_cast<std::size_t>(token)]);
  };
}

RowMeans run_row_means(Engine& engine, Communicator& comm, std::span<const Request> requests,
                       const RowFigure& figure, const ProgressCallback& on_step) {
  RowMeans result{.means = std::vector<double>(requests.size()), .completions = {}};
  engine.observe_logits(
      [&](std::size_t request_idx, std::int64_t num_generated, std::span<const float> logits) {
        result.means[request_idx] +=
            figure(request_idx, static_cast<std::size_t>(num_generated), logits);
      });
  result.completions = engine.run(requests, {}, on_step);
  engine.observe_logits({});
  comm.all_reduce(std::span<double>(result.means), ReduceOp::kSum);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    result.means[i] /= static_cast<double>(requests[i].forced_tokens.size());
  }
  return result;
}

RowFigure ReferenceRows::keeper(std::span<const Request> requests) {
  rows_.clear();
  for (const Request& request : requests) rows_.emplace_back(request.forced_tokens.size());
  return [this](std::size_t request_idx, std::size_t token_idx, std::span<const float> logits) {
    rows_[request_idx][token_idx].assign(logits.begin(), logits.end());
    return 0.0;
  };
}

RowFigure ReferenceRows::divergence() const {
  return [this](std::size_t request_idx, std::size_t token_idx, std::span<const float> logits) {
    const std::vector<float> reference = log_probabilities(at(request_idx, token_idx, logits));
    const std::vector<float> row = log_probabilities(logits);
    double sum = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const auto log_p = static_cast<double>(reference[i]);
      sum += std::exp(log_p) * (log_p - static_cast<double>(row[i]));
    }
    return sum;
  };
}

RowFigure ReferenceRows::output_error() const {
  return [this](std::size_t request_idx, std::size_t token_idx, std::span<const float> logits) {
    const std::span<const float> reference = at(request_idx, token_idx, logits);
    double squares = 0;
    double reference_squares = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const auto y = static_cast<double>(reference[i]);
      const double difference = static_cast<double>(logits[i]) - y;
      squares += difference * difference;
      reference_squares += y * y;
    }
    require(reference_squares > 0, "output_error", "all reference logits of token ", token_idx,
            " of request ", request_idx, " are 0, so that no error is relative to them");
    return std::sqrt(squares / reference_squares);
  };
}

std::span<const float> ReferenceRows::at(std::size_t request_idx, std::size_t token_idx,
                                         std::span<const float> logits) const {
  const std::vector<float>& reference = rows_[request_idx][token_idx];
  require(reference.size() == logits.size(), "eval", "another rank has the reference of token ",
          token_idx, " of request ", request_idx);
  return reference;
}

}  // namespace pikv::launch
