// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention of segments of one row at the speed of memory (decode_kernel.cuh), for the head sizes
// and forms of pages that models have.
#pragma once

#include <cstdint>

#include "kernels/attention.hpp"

namespace pikv::kernels::cuda {

/// Enqueues the attention of all segments of one row and returns where, on the device, it is said
/// whether there are longer ones; null, with nothing enqueued, for shapes that it has no kernel
/// for.
[[nodiscard]] const std::int32_t* attend_single_rows(Exec& exec, const AttentionArgs& args);

}  // namespace pikv::kernels::cuda
