// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention of segments of one row at the speed of memory (decode_kernel.cuh), for the head sizes
// and forms of pages that models have.
#pragma once

#include <cstdint>

#include "kernels/attention.hpp"

namespace pikv::kernels::cuda {

/// What attention of single rows leaves for that of longer segments, on the device.
struct LongSegments {
  std::int32_t exist;             // whether there are any: 0 or 1
  std::uint32_t num_items_taken;  // of their work: 0
};

/// Enqueues the attention of all segments of one row and returns what is left; null, with nothing
/// enqueued, for shapes that it has no kernel for.
[[nodiscard]] LongSegments* attend_single_rows(Exec& exec, const AttentionArgs& args);

}  // namespace pikv::kernels::cuda
