// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The cells of a sweep over ranks, each cell on one rank alone. A rank that is done takes the next
// cell, so that ranks do not wait for each other.
//
// A cell runs on a thread of its own, while the ranks exchange what is new several times a second.
// So a wait for a peer is short however long its cell takes, a lost rank is noticed within the
// deadline, and what one rank finished is safe before another fails.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <stop_token>

#include "core/comm/communicator.hpp"
#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// Runs one cell on a thread of this rank; ends early, with any exception, when asked to stop.
using RunCell = std::function<CellResult(std::size_t cell_idx, std::stop_token stop)>;

/// Takes a finished cell on rank 0, in the order in which they end.
using TakeResult = std::function<void(std::size_t cell_idx, CellResult result)>;

/// A collective. Throws AgreedError on every rank when a cell fails on any or when taking a result
/// fails; what was finished by then has been taken.
void spread_cells(Communicator& comm, std::span<const std::size_t> cell_idxs, const RunCell& run,
                  const TakeResult& take);

}  // namespace pikv::launch
