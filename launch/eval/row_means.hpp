// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What a model says about tokens that are given: figures of the rows of logits before the forced
// tokens of requests, and their mean for each request.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/engine/engine.hpp"

namespace pikv::launch {

/// log p [V] of logits [V].
[[nodiscard]] std::vector<float> log_probabilities(std::span<const float> logits);

/// A figure of the row [V] that predicts forced token `token_idx` of a request.
using RowFigure = std::function<double(std::size_t request_idx, std::size_t token_idx,
                                       std::span<const float> logits)>;

/// -log p of the token that is forced, in nats.
[[nodiscard]] RowFigure negative_log_likelihood(std::span<const Request> requests);

/// Runs the requests and gives for each the mean of the figures, the same on every rank. The
/// requests end with their forced tokens, of which each has at least one. A collective; the figure
/// is called on the rank that has the row.
struct RowMeans {
  std::vector<double> means;
  std::vector<Completion> completions;
};
[[nodiscard]] RowMeans run_row_means(Engine& engine, Communicator& comm,
                                     std::span<const Request> requests, const RowFigure& figure,
                                     const ProgressCallback& on_step);

/// What a model says with its full cache, which others are compared with. Rows stay on the rank
/// that had them: forced tokens are run by the same rank under every scheduler.
class ReferenceRows {
 public:
  /// A figure that keeps the rows: all of them, V floats each.
  [[nodiscard]] RowFigure keeper(std::span<const Request> requests);
  /// KL(reference || row) in nats; 0 for the same logits.
  [[nodiscard]] RowFigure divergence() const;
  /// ||row - reference|| / ||reference|| in the Euclidean norm of the logits as they are, so that a
  /// constant added to all of them counts, which divergence() does not see; 0 for the same logits.
  [[nodiscard]] RowFigure output_error() const;

 private:
  /// The row to compare with.
  [[nodiscard]] std::span<const float> at(std::size_t request_idx, std::size_t token_idx,
                                          std::span<const float> logits) const;

  std::vector<std::vector<std::vector<float>>> rows_;  // logits of request, token; empty elsewhere
};

}  // namespace pikv::launch
