// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The tokens that one rank runs through the model in one step: a row each. Rows of one sequence are
// adjacent and in ascending order of position; when a sequence's rows are divided over ranks, lower
// ranks hold earlier positions.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/ids.hpp"

namespace pikv {

/// Rows of all ranks, in the order of ranks: those of rank r are [first_row[r], first_row[r + 1]).
struct RowsOfRanks {
  std::vector<SequenceId> sequences;
  std::vector<Position> positions;
  std::vector<std::int64_t> first_row;  // [R + 1]

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(positions.size()); }
};

/// The rows that a rank computes.
struct StepRows {
  std::vector<TokenId> tokens;
  std::vector<SequenceId> sequences;
  std::vector<Position> positions;
  RowsOfRanks all;  // where rows of all ranks are gathered (RowExchange); else it may be empty
  /// Whether every rank computes the rows of all, so that only what ranks hold different parts of
  /// goes between them (Decoder::shares_rows). Then the rows are those of `all`, in its order.
  bool is_shared = false;

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
  void push(TokenId token, SequenceId sequence, Position position) {
    tokens.push_back(token);
    sequences.push_back(sequence);
    positions.push_back(position);
  }
};

}  // namespace pikv
