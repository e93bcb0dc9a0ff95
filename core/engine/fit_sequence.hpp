// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Coordinates for one sequence, found in the keys and values that all ranks hold of it.
#pragma once

#include "core/cache/kv_cache.hpp"
#include "core/comm/communicator.hpp"
#include "core/model/model_config.hpp"

namespace pikv {

/// A collective. Lets the codec fit a basis to each head of the sequence that has a page of slots,
/// and keeps the sequence in it from now on. Nothing changes when no head has so many, or when the
/// pool of some rank has no room for the pages that are written. Sums of moments are the same on
/// all ranks, each layer is fitted on one rank, and all get its numbers, so that queries of one
/// rank and keys of another meet in the same coordinates. Two sums over ranks, of 16 D^2 and 8 D^2
/// bytes a layer and KV head. Keys are fitted as they were before RoPE where the codec says so.
/// Throws Error on all ranks for numbers that are not finite.
void fit_on_all_ranks(KvCache& cache, Communicator& comm, const ModelConfig& model,
                      SequenceId sequence);

}  // namespace pikv
