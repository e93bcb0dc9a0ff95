// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention of segments of many rows on the tensor cores of Hopper (prefill_shared.cuh), with
// rounded factors, for the head sizes of models over plain 16-bit pages.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/cuda/attention_decode.cuh"

namespace pikv::kernels::cuda {

/// Enqueues the attention of all segments, or of those of more than one row where `left` is not
/// null. False, with nothing enqueued, where `exec` asks for exact products, for shapes that there
/// is no kernel for, and on other GPUs.
[[nodiscard]] bool attend_runs(Exec& exec, const AttentionArgs& args, LongSegments* left);

}  // namespace pikv::kernels::cuda
